"""Talking to an API server as the person who types: kubeconfig, credentials, HTTP, VoiceModels.

Separate from the operator's adapter, which is a service with a service account: this side reads what `kubectl` reads
and depends on nothing that the plain install lacks.
"""
