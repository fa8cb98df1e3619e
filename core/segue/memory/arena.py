"""Arenas: one part of a revision in memory that is written once, sealed, and mapped by everyone who speaks with it.

Separate from the pool because the layout is a contract between the child that writes, the sidecar that adopts and the
workers that map, and because the content is hostile until it was checked.

Layout (little endian)::

    0    magic            8 bytes   b"SEGUEAR1"
    8    version          u32       1
    12   header length    u32       bytes of JSON that follow the preamble
    16   total length     u64       of the file
    24   data offset      u64       where the first tensor may begin, a multiple of 4,096
    32   digest          32 bytes   sha256 over everything from byte 64 on
    64   header JSON      {"tensors": [[name, dtype, [shape], offset], …], "meta": {…}}, canonical, sorted by name
    …    tensors          C order, each at a multiple of 64, zeros between

The same tensors and meta give the same bytes, so the digest is also the key under which revisions share a part.

