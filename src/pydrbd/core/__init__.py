"""The border to the data plane: orders go down to the compiled engine, facts come up from it. Nothing else imports
`_core`.
"""
