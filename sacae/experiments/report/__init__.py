"""`sacae report`: compares runs and writes plots, tables, videos and one HTML page about them."""
