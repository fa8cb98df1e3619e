"""`segue import`: makes VoiceModel files of the voices that lie in a folder of GPT-SoVITS."""
