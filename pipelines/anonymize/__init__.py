"""Nothing personal or secret passes here: secrets in texts, pseudonyms, addresses, the shape of payloads."""
