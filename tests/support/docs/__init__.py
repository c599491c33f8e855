"""Every code block of our pages, and what it is done with so that it is shown to be true."""
