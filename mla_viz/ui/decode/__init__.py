"""The Decode page's parts: its sidebar, the runs it keeps, what a setting costs."""
