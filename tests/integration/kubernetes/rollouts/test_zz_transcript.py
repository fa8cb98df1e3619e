import os, subprocess, sys, time
from pathlib import Path
import pytest
from tests.support.cluster import obtain
from tests.support.pods.case import Case
pytestmark = [pytest.mark.cluster, pytest.mark.process, pytest.mark.timeout(400)]
PODS = 2
def test_transcript(case: Case, tmp_path: Path) -> None:
    out = Path("/tmp/k7_transcript.txt").open("w")
    bin = tmp_path / "bin"; bin.mkdir()
    (bin / "kubectl-segue").write_text(f"#!{sys.executable}\nfrom segue_cli.main import kubectl_main\nkubectl_main()\n"); (bin / "kubectl-segue").chmod(0o755)
    (bin / "kubectl").symlink_to(obtain("kubectl"))
    ns = case.stage.namespace
    subprocess.run([str(obtain("kubectl")), "--kubeconfig", str(case.stage.cluster.kubeconfig), "apply", "-f", "deploy/user.yaml"], check=True)
    kube = tmp_path / "kubeconfig"
    kube.write_text(case.stage.cluster.kubeconfig.read_text().replace("namespace: default", f"namespace: {ns}"))
    env = {"PATH": f"{bin}:{os.environ['PATH']}", "HOME": str(tmp_path), "KUBECONFIG": str(kube)}
    def sh(line, background=False):
        out.write(f"\n$ {line}\n"); out.flush()
        p = subprocess.Popen(line, shell=True, start_new_session=True, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if background: return p
        text, _ = p.communicate(timeout=120)
        out.write(text + (f"[exit {p.returncode}]\n" if p.returncode else "")); out.flush()
        return text
    def w(version):
        case.voices[-1].on_version(case.voices[-1].name, version)
        return " ".join(f"-w {n}={s['uri']}@{s['sha256']}" for n, s in version.spec["weights"].items())
    voice, first = case.speaking({"rollout": {"canary": {"mode": "Split"}}})
    n = voice.name
    sh("kubectl segue get"); sh("kubectl segue get -o wide")
    second = case.fresh()
    watching = sh(f"kubectl segue watch {n}", background=True)
    time.sleep(1)
    sh(f"kubectl segue roll {n} {w(second)} --wait")
    sh(f"kubectl segue describe {n}")
    os.killpg(watching.pid, 15); out.write("WATCH:\n" + watching.communicate()[0]); out.flush()
    sh(f"kubectl segue rollback {n} --wait")
    sh(f"kubectl segue wait {n} --for Promoted")
    bad = case.stage.wardrobe.wrong_words
    sh(f"kubectl segue roll {n} {w(bad)} --wait")
    sh(f"kubectl segue describe {n}")
    sh(f"kubectl segue pause {n}"); sh("kubectl segue get"); sh(f"kubectl segue resume {n}")
    sh(f"kubectl segue retry {n}"); sh(f"kubectl segue promote {n}")
    sh(f"kubectl segue rollback {n}")
    sh(f"kubectl segue describe nobody"); sh("kubectl segue get --context prod")
    jane = case.stage.cluster.kubeconfig_of("jane")
    sh(f"kubectl segue promote {n} -n {ns} --kubeconfig {jane}")
    sh(f"kubectl segue get -A"); sh("kubectl segue get -o name"); sh("kubectl segue --help")
    case.stage.operators and [o for o in case.stage.operators]
    out.close()
