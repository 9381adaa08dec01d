"""Build the C core; everything else stands in pyproject.toml."""

from setuptools import setup

setup(
    cffi_modules=["csrc/cffi_build.py:ffi"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
