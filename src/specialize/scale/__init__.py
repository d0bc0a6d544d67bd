"""Work on many processes and machines: the Ray engine, whose workers run what `specialize.engine` describes.

No module here knows what the work is. Ray is imported when an engine is opened.
"""
