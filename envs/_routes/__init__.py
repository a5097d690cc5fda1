"""Routes through a city: their data, the rail that is asked along, its words and its views."""
