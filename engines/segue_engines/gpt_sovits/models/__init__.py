"""The models that all GPT-SoVITS voices share: HuBERT and the speaker network hear references, RoBERTa reads Chinese.

None of them belongs to a voice. They are loaded once per pod, from the files that GPT-SoVITS itself loads, and served
as parts of their own.
"""
