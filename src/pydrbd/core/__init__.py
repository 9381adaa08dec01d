"""The border to the compiled data plane: orders go down, facts come up. Nothing else imports `_core`."""
