"""The API of GPT-SoVITS (`api_v2.py`), so that its clients need another base URL and nothing else.

`parameters` is what its requests hold, `dialect` what they mean here and how errors are told, `commands` what cannot be
done by request here and how it is done instead.
"""
