#!/usr/bin/env python3
"""Backs the same corpora up with lavatube and with its peers, in the same run, and prints medians.

    cargo xtask bench backup --corpus DIR [--runs 5] [--peers restic,rustic,borg] [--only src,media,versions-c]

DIR holds `src/` (many small files), `media/` (incompressible), `versions-c/v1..v3/`, and `v2-overlay/{new,old}/` with the
1 % of src that changes. Nothing in DIR is left changed. Peers are found on PATH or in --peer-path; those that are
missing are skipped, loudly. CPU is user + system of the process and its children; memory is the largest process.
"""
import argparse, os, pathlib, re, shutil, statistics, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def measure(command, env=None, cwd=None):
    """Runs a command; (wall s, CPU s, peak MiB). A failure ends the benchmark: a figure of a failed run is none."""
    os.sync()
    start = time.monotonic()
    child = subprocess.Popen(command, env={**os.environ, **(env or {})}, cwd=cwd,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - start
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {code}:\n{errors.decode(errors='replace')[-2000:]}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def size(folder):
    return sum(f.lstat().st_size for f in pathlib.Path(folder).rglob("*") if f.is_file())


class Lavatube:
    name = "lavatube"

    def __init__(self, work, binary):
        self.work, self.binary = work, binary
        self.env = {"LAVATUBE_VAULT": f"{work}/vault", "LAVATUBE_STATE": f"{work}/state",
                    "LAVATUBE_KEYS": f"{work}/keys", "LAVATUBE_CONFIG": f"{work}/empty.toml"}
        pathlib.Path(work, "empty.toml").touch()
        subprocess.run([binary, "init"], env={**os.environ, **self.env}, check=True, capture_output=True)

    def backup(self, path):
        return measure([self.binary, "backup", "--quiet", path], self.env)

    def restore(self, target):
        return measure([self.binary, "restore", "latest", "--target", target, "--quiet"], self.env)

    def stored(self):
        """Bytes that would cross the link: packs, manifests and cards before erasure coding (object lengths in shard headers)."""
        total = 0
        for shard in pathlib.Path(self.work, "vault", "drives").rglob("*.00"):
            with open(shard, "rb") as f:
                head = f.read(56)
            total += int.from_bytes(head[48:56], "little")
        return total


class Restic:
    name = "restic"

    def __init__(self, work, binary):
        self.repo, self.binary = f"{work}/repo", binary
        self.env = {"RESTIC_PASSWORD": "bench", "RESTIC_REPOSITORY": self.repo, "XDG_CACHE_HOME": f"{work}/cache"}
        subprocess.run([binary, "init", "-q"], env={**os.environ, **self.env}, check=True, capture_output=True)

    def backup(self, path):
        return measure([self.binary, "backup", "-q", path], self.env)

    def restore(self, target):
        return measure([self.binary, "restore", "latest", "--target", target, "-q"], self.env)

    def stored(self):
        return size(self.repo)


class Rustic(Restic):
    name = "rustic"

    def __init__(self, work, binary):
        self.repo, self.binary = f"{work}/repo", binary
        self.env = {"RUSTIC_PASSWORD": "bench", "RUSTIC_REPOSITORY": self.repo, "XDG_CACHE_HOME": f"{work}/cache",
                    "RUSTIC_NO_PROGRESS": "true"}
        options = ["--set-compression", "3"]
        subprocess.run([binary, "init", *options], env={**os.environ, **self.env}, check=True, capture_output=True)

    def backup(self, path):
        return measure([self.binary, "backup", path], self.env)

    def restore(self, target):
        return measure([self.binary, "restore", "latest", target], self.env)


class Borg:
    name = "borg"

    def __init__(self, work, binary):
        self.repo, self.binary, self.count = f"{work}/repo", binary, 0
        self.env = {"BORG_PASSPHRASE": "bench", "BORG_BASE_DIR": f"{work}/base"}
        subprocess.run([binary, "init", "-e", "repokey-blake2", self.repo], env={**os.environ, **self.env}, check=True, capture_output=True)

    def backup(self, path):
        self.count += 1
        return measure([self.binary, "create", "-C", "zstd,3", f"{self.repo}::a{self.count}", path], self.env)

    def restore(self, target):
        return measure([self.binary, "extract", f"{self.repo}::a{self.count}"], self.env, cwd=target)

    def stored(self):
        return size(self.repo)


def limit(binary, corpus, only, rows):
    """What reading, BLAKE3, zstd 3 and AES-GCM alone would take, on all cores: no tool, but a line to look up to."""
    for name in ("src", "media"):
        if name in only:
            out = subprocess.run([binary, f"{corpus}/{name}"], check=True, capture_output=True, text=True).stdout
            cpu, wall = re.search(r"limit: ([0-9.]+) CPU s, ([0-9.]+) s wall", out).groups()
            rows.setdefault(f"{name} first", []).append((float(wall), float(cpu), 0, None))


def overlay(corpus, side):
    """Writes the changed 1 % over src (`new`) or puts the old files back (`old`)."""
    subprocess.run(f"cd '{corpus}/v2-overlay/{side}' && tar c . | tar x -C '{corpus}/src' --no-overwrite-dir", shell=True, check=True)


def one_run(make, corpus, only, place, kept, rows):
    def note(step, figures, stored=None):
        rows.setdefault(step, []).append((*figures, stored))

    if "src" in only:
        with tempfile.TemporaryDirectory(dir=place) as work:
            tool = make(work)
            note("src first", tool.backup(f"{corpus}/src"), tool.stored())
            before = tool.stored()
            note("src unchanged", tool.backup(f"{corpus}/src"), tool.stored() - before)
            overlay(corpus, "new")
            try:
                before = tool.stored()
                note("src 1 % changed", tool.backup(f"{corpus}/src"), tool.stored() - before)
            finally:
                overlay(corpus, "old")
            # Kept to the end: ext4 shuns inodes deleted within the last minutes, and would search for others all through
            # the next restore, whoever's that is.
            target = tempfile.mkdtemp(dir=kept)
            note("src restore", tool.restore(target))
    if "media" in only:
        with tempfile.TemporaryDirectory(dir=place) as work:
            tool = make(work)
            note("media first", tool.backup(f"{corpus}/media"), tool.stored())
            target = f"{work}/target"
            os.mkdir(target)
            note("media restore", tool.restore(target))
    if "versions-c" in only:
        with tempfile.TemporaryDirectory(dir=place) as work:
            tool = make(work)
            source = f"{work}/source"
            for version in ("v1", "v2", "v3"):
                shutil.rmtree(source, ignore_errors=True)
                shutil.copytree(f"{corpus}/versions-c/{version}", source)
                note(f"versions-c {version}", tool.backup(source), tool.stored())


def table(figures, runs):
    ours = figures[Lavatube.name]
    print(f"\nMedians of {runs}. Ratio: lavatube / peer, run by run, median.\n")
    print("| step | tool | wall s | CPU s | peak MiB | stored or sent MB | CPU ratio | wall ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for step in ours:
        for name, rows in figures.items():
            if step not in rows:
                continue
            wall, cpu, peak = (statistics.median(r[i] for r in rows[step]) for i in range(3))
            stored = rows[step][-1][3]
            stored = "" if stored is None else f"{stored / 1e6:.2f}"
            ratio = ["", ""]
            if name != Lavatube.name:
                ratio = [f"{statistics.median(a[i] / b[i] for a, b in zip(ours[step], rows[step])):.2f}" for i in (1, 0)]
            print(f"| {step} | {name} | {wall:.2f} | {cpu:.2f} | {peak:.0f} | {stored} | {ratio[0]} | {ratio[1]} |")



def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peers", default="restic,rustic")
    parser.add_argument("--peer-path", default="", help="folders to look for peers in, before PATH")
    parser.add_argument("--only", default="src,media,versions-c")
    parser.add_argument("--place", default=None, help="where repositories and targets go (the temporary folder)")
    args = parser.parse_args()
    only = args.only.split(",")
    path = args.peer_path + os.pathsep + os.environ["PATH"]
    for what in (["lavatube-cli"], ["lavatube-node", "--example", "limit"]):
        subprocess.run(["cargo", "build", "--release", "--quiet", "-p", *what], cwd=ROOT, check=True)
    built = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
    makers = [(Lavatube, str(built / "lavatube"))]
    for peer in (Restic, Rustic, Borg):
        if peer.name in args.peers.split(","):
            found = shutil.which(peer.name, path=path)
            if found:
                version = subprocess.run([found, "version" if peer is Restic else "--version"], capture_output=True, text=True)
                print(f"# {version.stdout.splitlines()[0]}")
                makers.append((peer, found))
            else:
                print(f"!!!! SKIPPED: {peer.name} is not installed")
    subprocess.run(f"find '{args.corpus}' -type f -exec cat {{}} + > /dev/null", shell=True)
    figures = {}
    with tempfile.TemporaryDirectory(dir=args.place) as kept:
        for run in range(args.runs):
            for cls, binary in makers:
                print(f"# run {run + 1} of {args.runs}: {cls.name}, load {os.getloadavg()[0]:.1f}", flush=True)
                rows = figures.setdefault(cls.name, {})
                one_run(lambda work: cls(work, binary), args.corpus, only, args.place, kept, rows)
            limit(str(built / "examples" / "limit"), args.corpus, only, figures.setdefault("limit", {}))
            table(figures, run + 1)

if __name__ == "__main__":
    main()
