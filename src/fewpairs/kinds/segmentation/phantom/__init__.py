"""Made-up abdominal scans in the UW-Madison layout."""
