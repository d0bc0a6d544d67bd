"""Labels for tokens or documents: parts of speech, topics, corpus columns."""
