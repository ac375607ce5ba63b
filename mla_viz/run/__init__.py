"""What a run is: the settings that decide it, the loop that makes it, the record it leaves."""
