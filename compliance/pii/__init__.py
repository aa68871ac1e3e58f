"""Personal data: detect it in text and find the columns, files and tables that hold it."""
