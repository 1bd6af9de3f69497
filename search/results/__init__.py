"""What a sweep's units say of its settings: scores, pooled and audited numbers, tables, pictures and audit files.

`final` is the only way from what units claim to the numbers that tables, pictures and samplers use.
"""
