"""Values that must be refused, each with the words that have to be in the message: which value, at least.

Twice used: against the schema alone, and through helm, which also refuses what is about two values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML

BY_SCHEMA: tuple[tuple[str, str], ...] = (
    ("oprator: {}", "oprator"),
    ("operator: {replica: 2}", "replica"),
    ("operator: {replicas: 0}", "operator/replicas"),
    ("operator: {replicas: '2'}", "operator/replicas"),
    ("operator: {image: {tag: 'a b'}}", "operator/image/tag"),
    ("operator: {image: {repository: 'segue/operator:0.1'}}", "operator/image/repository"),
    ("operator: {image: {digest: 'sha256:12'}}", "operator/image/digest"),
    ("operator: {image: {pullPolicy: Sometimes}}", "operator/image/pullPolicy"),
    ("operator: {namespaces: [Voices]}", "operator/namespaces/0"),
    ("operator: {namespaces: [a, a]}", "operator/namespaces"),
    ("operator: {config: {adapter: folder}}", "adapter"),
    ("operator: {config: {idlePollS: 0}}", "operator/config/idlePollS"),
    ("operator: {config: {lease: {name: mine}}}", "name"),
    ("operator: {config: {logFormat: yaml}}", "operator/config/logFormat"),
    ("operator: {fleets: {gold: {namespace: speech}}}", "operator/fleets/gold"),
    ("operator: {fleets: {gold: {namespace: speech, podSelector: {}}}}", "operator/fleets/gold/podSelector"),
    ("operator: {fleets: {gold: {namespace: speech, podSelector: {a: b}, signingKeys: []}}}", "signingKeys"),
    ("operator: {hooks: {enabled: true}}", "operator/hooks/tokenSecret/name"),
    ("operator: {prometheus: {url: 'prometheus:9090'}}", "operator/prometheus/url"),
    ("operator: {prometheus: {url: 'http://me:secret@prometheus'}}", "operator/prometheus/url"),
    ("operator: {uid: 0}", "operator/uid"),
    ("operator: {resources: {limit: {memory: 1Gi}}}", "limit"),
    ("listenAddress: 127.0.0.1", "listenAddress"),
    ("crds: {enabled: 'yes'}", "crds/enabled"),
    ("tls: {mode: none}", "tls/mode"),
    ("tls: {certManager: {issuerRef: {kind: ClusterIssuer}}}", "tls/certManager/issuerRef"),
    ("tls: {chart: {validityDays: 0}}", "tls/chart/validityDays"),
    ("fleet: {sources: ['s3://voices/']}", "fleet/sources/0"),
    ("fleet: {sources: [{uriPrefixes: []}]}", "fleet/sources/0/uriPrefixes"),
    ("fleet: {sources: [{uriPrefixes: ['s3://v/'], private: true}]}", "private"),
    ("fleet: {trustedKeys: [rsa]}", "fleet/trustedKeys/0"),
    ("fleet: {engines: {mine: my_package}}", "fleet/engines/mine"),
    ("fleet: {server: {uid: 0}}", "fleet/server/uid"),
    ("fleet: {server: {port: 80}}", "fleet/server/port"),
    ("fleet: {server: {workerMemory: 1G}}", "fleet/server/workerMemory"),
    ("fleet: {server: {config: {listen: '0.0.0.0:80'}}}", "listen"),
    ("fleet: {server: {config: {cacheByte: 1}}}", "cacheByte"),
    ("fleet: {server: {config: {timeouts: {headS: -1}}}}", "fleet/server/config/timeouts/headS"),
    ("fleet: {sidecar: {budget: 4294967296}}", "fleet/sidecar/budget"),
    ("fleet: {sidecar: {config: {limits: {fileBytes: 1}}}}", "fileBytes"),
    ("fleet: {sidecar: {config: {limits: {voiceBytes: 1GB}}}}", "fleet/sidecar/config/limits/voiceBytes"),
    ("fleet: {sidecar: {config: {throttle: {duty: 2}}}}", "fleet/sidecar/config/throttle/duty"),
    ("fleet: {sidecar: {cacheVolume: {hostPath: {path: /}}}}", "fleet/sidecar/cacheVolume"),
    ("fleet: {extraVolumes: [{name: root, hostPath: {path: /}}]}", "fleet/extraVolumes/0"),
    ("fleet: {gpu: {count: 0}}", "fleet/gpu/count"),
    ("fleet: {autoscaling: {targetCPU: 0}}", "fleet/autoscaling/targetCPU"),
    ("fleet: {keda: {serverAddress: prometheus}}", "fleet/keda/serverAddress"),
    ("fleet: {service: {type: ExternalName}}", "fleet/service/type"),
    ("fleet: {pdb: {maxUnavailable: some}}", "fleet/pdb/maxUnavailable"),
    ("fleet: {strategy: {rollingUpdate: {surge: 1}}}", "surge"),
    ("fleets: {default: {}}", "default"),
    ("fleets: {operator: {}}", "operator"),
    ("fleets: {GPU: {}}", "GPU"),
    ("fleets: {gpu: {replicas: -1}}", "fleets/gpu/replicas"),
    ("networkPolicies: {apiServerPorts: []}", "networkPolicies/apiServerPorts"),
    ("networkPolicies: {clients: [{selector: {}}]}", "selector"),
    ("monitoring: {podMonitors: {interval: often}}", "monitoring/podMonitors/interval"),
    ("monitoring: {rules: {takeBack: {errorRate: 2}}}", "monitoring/rules/takeBack/errorRate"),
    ("monitoring: {rules: {takeBack: {for: soon}}}", "monitoring/rules/takeBack/for"),
    ("monitoring: {rules: {limits: {poolShare: 95}}}", "monitoring/rules/limits/poolShare"),
    ("monitoring: {dashboards: {labels: {grafana_dashboard: 1}}}", "monitoring/dashboards/labels/grafana_dashboard"),
    ("monitoring: {dashboards: {folderAnnotation: ''}}", "monitoring/dashboards/folderAnnotation"),
)

BY_TEMPLATE: tuple[tuple[str, str], ...] = (
    ("fleet: {server: {uid: 7}, sidecar: {uid: 7}}", "fleet.server.uid and fleet.sidecar.uid are both 7"),
    ("fleets: {gpu: {server: {uid: 10001}}}", "fleets.gpu.server.uid and fleets.gpu.sidecar.uid are both 10001"),
    ("fleet: {server: {port: 8001}}", "fleet: server.port, server.statusPort"),
    (
        "fleet: {autoscaling: {enabled: true}, keda: {enabled: true, serverAddress: 'http://p'}}",
        "fleet.autoscaling.enabled and fleet.keda.enabled",
    ),
    ("fleet: {keda: {enabled: true}}", "fleet.keda.serverAddress is empty"),
    ("fleet: {autoscaling: {enabled: true, minReplicas: 9}}", "fleet.autoscaling.minReplicas (9)"),
    ("tls: {mode: existing}", "tlsSecret is empty"),
    ("{tls: {mode: existing}, fleet: {enabled: false}}", "operator.tlsSecret is empty"),
    ("operator: {enabled: false}", "tls.mode chart makes an authority"),
    ("{operator: {enabled: false}, tls: {mode: certManager}}", "tls.mode certManager makes an authority"),
    ("operator: {namespaces: [voices]}", "operator.namespaces lacks segue-system, where fleet is"),
    (
        "{tls: {mode: existing}, operator: {tlsSecret: a}, fleet: {tlsSecret: b}, fleets: {gpu: {}}}",
        "fleets.gpu.tlsSecret is empty",
    ),
    ("operator: {fleets: {default: {namespace: speech, podSelector: {a: b}}}}", "operator.fleets.default"),
)
"""What a schema cannot say."""


def as_values(text: str) -> dict[str, Any]:
    """Of one line."""
    values: dict[str, Any] = YAML(typ="safe").load(text)
    return values


def ids(cases: tuple[tuple[str, str], ...]) -> Iterator[str]:
    """Names for tests: the lines themselves."""
    return (text for text, _ in cases)
