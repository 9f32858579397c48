"""Runs a workflow under a real Slurm on this machine:  slurm_test.py CORVID

Munge, a controller and two node daemons are started on loopback, an array of four does twenty tasks, one of its tasks is
killed and queued again, and the parts are gathered: nothing may be missing, nothing there twice. Needs Debian's slurm-wlm
and munge, and root; without them it exits with 77, which ctest reports as skipped.
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ["munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "sinfo"]
PARTS, TASKS = 4, 20
BEGIN = time.monotonic()

CONFIG = """
ClusterName=corvid
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=2
CompleteWait=0
NodeName=node[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{node1}-{node2}] CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

WORKFLOW = """
version: 1
name: twenty
inputs: { jsonl: inputs.jsonl }
tasks:
  count:
    prompt: "How many lines of ${{ input.file }} contain ERROR?"
    workdir: { copy: logs }
    setup: ['sleep 0.5']
    checks: [ { answer_matches: '\\b${{ input.errors }}\\b' } ]
outputs: { dir: out, formats: [jsonl, junit, html] }
"""


def skip(why):
    print(f"SKIPPED: {why}")
    sys.exit(77)


def free_ports(count):
    """Numbers that stand one behind the other."""
    for first in range(26800, 29000, 10):
        sockets = []
        try:
            for port in range(first, first + count):
                sockets.append(socket.socket())
                sockets[-1].bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    raise RuntimeError("no free ports")


class Cluster:
    def __init__(self, folder):
        self.folder, self.daemons = folder, []
        port = free_ports(3)
        config = CONFIG.format(host=socket.gethostname().split(".")[0], folder=folder, port=port, node1=port + 1,
                               node2=port + 2)
        (folder / "slurm.conf").write_text(config)
        (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        for name in ("state", "spool-node1", "spool-node2"):
            (folder / name).mkdir(mode=0o700)
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}

    def __enter__(self):
        files = {name: f"--{name}={self.folder}/munge.{suffix}" for name, suffix in
                 [("key-file", "key"), ("socket", "socket"), ("pid-file", "pid"), ("log-file", "log"), ("seed-file", "seed")]}
        self.start("munged", "--foreground", "--force", "--num-threads=2", *files.values())
        self.wait(lambda: (self.folder / "munge.socket").exists(), "munged")
        self.start("slurmctld", "-D", "-c")
        for node in ("node1", "node2"):
            self.start("slurmd", "-D", "-N", node)
        self.wait(lambda: self.run("sinfo", "-h", "-o", "%D %t").strip() == "2 idle", "two idle nodes")
        return self

    def __exit__(self, *_):
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in reversed(self.daemons):
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def start(self, program, *words):
        log = open(self.folder / f"{program}.out", "a")
        self.daemons.append(subprocess.Popen([shutil.which(program, path=search_path()), *words], env=self.environment,
                                             stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def run(self, program, *words, **options):
        done = subprocess.run([program, *map(str, words)], env=options.pop("env", self.environment), text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        return done.stdout if done.returncode == 0 else ""

    def wait(self, holds, what, seconds=240):
        end = time.monotonic() + seconds
        while not holds():
            for daemon in self.daemons:
                if daemon.poll() is not None:
                    raise RuntimeError(f"{daemon.args[0]} ended with {daemon.returncode}; see {self.folder}")
            if time.monotonic() > end:
                raise RuntimeError(f"waited in vain for {what}")
            time.sleep(0.2)


def search_path():
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def pid_of_part(job, part):
    """The corvid process of the array's task `part`, by its environment."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if (f"SLURM_ARRAY_JOB_ID={job}".encode() in variables and f"SLURM_ARRAY_TASK_ID={part}".encode() in variables
                and Path(words[0].decode()).name == "corvid" and b"batch" in words):
            return int(folder.name)
    return None


def rows_of(folder):
    try:
        return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    except FileNotFoundError:
        return []


def write_workflow(folder):
    (folder / "logs").mkdir()
    inputs = []
    for i in range(TASKS):
        errors = i % 5 + 1
        name = f"app{i}.log"
        (folder / "logs" / name).write_text("INFO fine\n" + "ERROR bad\n" * errors + "INFO done\n")
        inputs.append(json.dumps({"file": name, "errors": errors}))
    (folder / "inputs.jsonl").write_text("\n".join(inputs) + "\n")
    (folder / "w.yaml").write_text(WORKFLOW)


def check(what, found, wanted):
    if found != wanted:
        raise AssertionError(f"{what}: want {wanted}, found {found}")
    print(f"{time.monotonic() - BEGIN:5.1f} s  {what}: {found}", flush=True)


def test(cluster, folder, corvid):
    environment = cluster.environment | {"PATH": f"{corvid.parent}:{search_path()}", "HOME": str(folder),
                                         "XDG_DATA_HOME": str(folder / "data"), "XDG_CONFIG_HOME": str(folder / "config"),
                                         "XDG_CACHE_HOME": str(folder / "cache")}
    write_workflow(folder)
    out = folder / "out"
    job = cluster.run("sbatch", "--parsable", f"--array=0-{PARTS - 1}", ROOT / "configs/cluster/slurm.sh", "w.yaml", "--threads", "1",
                      cwd=folder, env=environment).strip()
    if not job:
        raise RuntimeError("sbatch did not take the job")

    # One part is killed in the middle of its work: some rows are there, others are not.
    part = out / f"shard-2-of-{PARTS}"
    cluster.wait(lambda: rows_of(part), "a row of part 2")
    before = rows_of(part)
    os.kill(pid_of_part(job, 1), signal.SIGKILL)
    check("part 2 was killed before it had done its share", len(before) < TASKS // PARTS, True)
    def has_ended():
        # What is queued again waits for two minutes, until its node has forgotten that it was killed, and may be listed
        # as one that has ended meanwhile: the rows tell.
        states = cluster.run("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%T").split()
        return set(states) == {"COMPLETED"} and all(
            len(rows_of(out / f"shard-{i + 1}-of-{PARTS}")) >= TASKS // PARTS for i in range(PARTS))

    cluster.wait(has_ended, "the end of the array")
    check("part 2 was queued again", "Restarts=1" in cluster.run("scontrol", "show", "job", f"{job}_1"), True)
    kept = {row["key"]: row for row in rows_of(part)}
    check("rows from before the kill were kept", all(kept[row["key"]] == row for row in before), True)

    parts = [rows_of(out / f"shard-{i + 1}-of-{PARTS}") for i in range(PARTS)]
    keys = [row["key"] for rows in parts for row in rows]
    check("rows by part", [len(rows) for rows in parts], [TASKS // PARTS] * PARTS)
    check("different rows", len(set(keys)), TASKS)
    check("inputs", sorted(row["input"]["file"] for rows in parts for row in rows), sorted(f"app{i}.log" for i in range(TASKS)))

    stores = sorted(out.glob("shard-*/corvid.db"))
    check("stores", len(stores), PARTS)
    merged = folder / "all.db"
    first = json.loads(cluster.run(corvid, "sessions", "merge", "--db", merged, "--output", "json", *stores, env=environment))
    again = json.loads(cluster.run(corvid, "sessions", "merge", "--db", merged, "--output", "json", *stores, env=environment))
    check("merged again", [again["added"], again["continued"], again["unchanged"], again["conflicts"]],
          [0, 0, first["added"], []])
    listed = json.loads(cluster.run(corvid, "sessions", "list", "--limit", "1000", "--db", merged, "--output", "json", env=environment))
    known = [session["session_id"] for session in listed]
    check("sessions twice", len(known) - len(set(known)), 0)
    wanted = {row["session_id"] for rows in parts for row in rows}
    check("sessions of rows", len(wanted & set(known)), TASKS)

    summary = json.loads(cluster.run(corvid, "batch", "w.yaml", "--output", "json", cwd=folder, env=environment).splitlines()[-1])
    check("gathered", [summary["total"], summary["passed"], summary["skipped"]], [TASKS, TASKS, TASKS])
    check("gathered rows", sorted(row["key"] for row in rows_of(out)), sorted(keys))


def main():
    if os.geteuid() != 0:
        skip("wants root, to start Slurm's daemons")
    missing = [name for name in PROGRAMS if not shutil.which(name, path=search_path())]
    if missing:
        skip(f"wants Debian's slurm-wlm and munge; there is no {', '.join(missing)}")
    corvid = Path(sys.argv[1]).resolve()
    folder = Path(tempfile.mkdtemp(prefix="corvid-slurm-"))
    try:
        with Cluster(folder) as cluster:
            work = folder / "work"
            work.mkdir()
            test(cluster, work, corvid)
    except Exception:
        for log in sorted([*folder.glob("*.log"), *folder.glob("*.out"), *folder.glob("work/*.log")]):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}")
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
