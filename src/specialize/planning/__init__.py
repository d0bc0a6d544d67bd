"""What a job will take, before it starts: bytes, memory and time of each stage, measured, computed or assumed.

`architecture` reads a model's configuration, `measured` extrapolates from short runs of the stages, `computed` needs
neither weights nor a corpus, and `plan` holds the result.
"""
