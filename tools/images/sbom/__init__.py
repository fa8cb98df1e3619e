"""What an image is made of, written down as CycloneDX: its Python packages and the Debian packages of its base.

Separate from the rest of `tools.images` because it runs inside the build, where the packages are, with nothing but
`requirements/build.txt`: it may import nothing of the folder above.
"""
