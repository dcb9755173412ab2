"""Records, and what others have published -> frames. Nothing is judged here."""
