"""What telephony vendors send, read without any I/O: media streams, callbacks, and their signatures."""
