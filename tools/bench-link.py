#!/usr/bin/env python3
"""Takes the same bytes over the same emulated link with lavatube and with its peers, in the same run, and prints ratios.

    cargo xtask bench link [--mib 16] [--rate 100] [--delay 1280] [--loss 0,0.1,1] [--own-loss 5,10] [--peers rsync,restic,borg] [--runs 1]
    cargo xtask bench link --kill 12 [--mib 256] [--loss 1]

Root only: the link is lavatube-emulator between two network namespaces (scripts/emulated-link). The bytes are incompressible.
Peers work over ssh, as their users have it; what is missing on PATH is skipped, loudly. T is what nobody can beat:
bytes / (1436/1500 x (1 - loss) x rate) + one way there and back. lavatube is timed from the start of `backup` to the last receipt: of the
first backup ever over this link, of which nothing is known, and of a second one of as many other bytes.

With --kill N, either daemon is killed with signal 9, N times in all, at random moments of a transfer. At each death of the vault everything
that was receipted must lie on its drives; at the end all must have crossed, be restored and compared, and few bytes may have crossed twice.
"""
import argparse, filecmp, json, os, pathlib, random, re, shutil, statistics, subprocess, sys, tempfile, threading, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINK = str(ROOT / "scripts" / "emulated-link")
SHARE = 1436 / 1500
MOON = "10.77.0.2"
PORT = 4556


def run(command, env=None, **more):
    """Runs a command that must succeed."""
    done = subprocess.run(command, env={**os.environ, **(env or {})}, capture_output=True, text=True, **more)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout


def earth(*command):
    return [LINK, "earth", *command]


def moon(*command):
    return [LINK, "moon", *command]


def stats():
    """What became of packets: direction -> name -> number."""
    time.sleep(0.5)  # they are written five times a second
    out = {}
    for line in run([LINK, "stats"]).splitlines():
        words = line.split()
        out[words[0]] = dict(zip(words[1::2], map(int, words[2::2])))
    return out


class Link:
    """The emulated link, up for as long as the block lasts."""

    def __init__(self, args, loss):
        self.options = ["--rate", str(args.rate), "--delay", str(args.delay), "--loss", str(loss), "--seed", str(args.seed)]

    def __enter__(self):
        run([LINK, "up", *self.options])
        return self

    def __exit__(self, *_):
        run([LINK, "down"])


class Sshd:
    """An ssh server on the moon, with keys of its own."""

    def __init__(self, work):
        self.folder = pathlib.Path(work, "ssh")
        self.folder.mkdir()
        for key in ("host", "user"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / key)])
        shutil.copy(self.folder / "user.pub", self.folder / "authorized")
        (self.folder / "config").write_text(
            f"Port 2222\nListenAddress {MOON}\nHostKey {self.folder}/host\nAuthorizedKeysFile {self.folder}/authorized\n"
            "PermitRootLogin yes\nStrictModes no\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\nLoginGraceTime 0\n")
        self.command = (f"ssh -p 2222 -i {self.folder}/user -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
                        "-o LogLevel=ERROR -o BatchMode=yes")

    def __enter__(self):
        os.makedirs("/run/sshd", exist_ok=True)
        self.server = subprocess.Popen(moon(shutil.which("sshd"), "-D", "-f", str(self.folder / "config")),
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        return self

    def __exit__(self, *_):
        self.server.terminate()
        self.server.wait()


def timed(command, limit, env=None):
    """Wall seconds of a command, or None when it takes longer than the limit."""
    start = time.monotonic()
    try:
        run(command, env, timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    return time.monotonic() - start


def rsync(work, source, ssh, limit):
    return timed(earth("rsync", "-a", "-e", ssh.command, f"{source}/", f"root@{MOON}:{work}/rsync/"), limit)


def restic(work, source, ssh, limit):
    env = {"RESTIC_PASSWORD": "none", "RESTIC_CACHE_DIR": f"{work}/restic-cache"}
    run(["restic", "init", "-r", f"{work}/restic"], env)
    sftp = f"sftp.command={ssh.command} root@{MOON} -s sftp"
    return timed(earth("restic", "-o", sftp, "-r", f"sftp:root@{MOON}:{work}/restic", "backup", source), limit, env)


def borg(work, source, ssh, limit):
    env = {"BORG_PASSPHRASE": "none", "BORG_BASE_DIR": f"{work}/borg-home", "BORG_RSH": ssh.command,
           "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
    run(["borg", "init", "--encryption", "repokey-blake2", f"{work}/borg"], env)
    return timed(earth("borg", "create", f"ssh://root@{MOON}:2222{work}/borg::one", source), limit, env)


PEERS = {"rsync": rsync, "restic": restic, "borg": borg}


class Lavatube:
    """Two machines, paired."""

    def __init__(self, work, binary, rate):
        self.work, self.binary = work, binary
        pathlib.Path(work, "empty.toml").touch()
        self.near = self.places("near", "state")
        self.far = self.places("far", "far-state")
        self.call(self.far, "init")
        lines = {}
        for name, env in (("near", self.near), ("far", self.far)):
            lines[name] = json.loads(self.call(env, "pair", "--json"))["line"]
        bits = str(int(rate * 1e6))
        self.call(self.near, "pair", lines["far"], "--rate-up", bits, "--rate-down", bits)
        self.call(self.far, "pair", lines["near"], "--rate-up", bits, "--rate-down", bits)
        self.serving = self.node = None
        self.receipted, self.left, self.bad = set(), None, []

    def places(self, vault, state):
        return {"LAVATUBE_VAULT": f"{self.work}/{vault}", "LAVATUBE_STATE": f"{self.work}/{state}",
                "LAVATUBE_KEYS": f"{self.work}/keys", "LAVATUBE_CONFIG": f"{self.work}/empty.toml"}

    def call(self, env, *args):
        return run([self.binary, *args], env)

    def start(self, env, host, *args):
        command = host(self.binary, *args, "--json", "--lock-wait", "30")
        child = subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return child

    def serve(self):
        self.serving = self.start(self.far, moon, "vault", "serve", "--listen", f"{MOON}:{PORT}")
        self.serving.stdout.readline()  # it listens
        threading.Thread(target=lambda pipe: [None for _ in pipe], args=[self.serving.stdout], daemon=True).start()

    def drain(self):
        """Starts the node; a thread notes what it tells."""
        self.node = self.start(self.near, earth, "node", "--once", "--peer", f"{MOON}:{PORT}")

        def listen(pipe):
            for line in pipe:
                try:
                    told = json.loads(line)
                except ValueError:
                    continue  # the last line of one that was killed
                if told.get("event") == "receipted":
                    self.receipted.add(told["object"])
                    self.left = told["left"]
                    self.last = time.monotonic()
                elif told.get("event") in ("denied", "damaged", "nonsense"):
                    self.bad.append(told)

        threading.Thread(target=listen, args=[self.node.stdout], daemon=True).start()

    def end(self):
        for child in (self.node, self.serving):
            if child and child.poll() is None:
                child.terminate()
                child.wait()

    def shards(self):
        """Object id -> number of drives that have a shard of it under its name."""
        found = {}
        for shard in pathlib.Path(self.work, "far", "drives").glob("d*/shards/*/*"):
            found[shard.name.split(".")[0]] = found.get(shard.name.split(".")[0], 0) + 1
        return found

    def is_whole(self, source):
        """Restores from the far vault, and compares."""
        self.call(self.far, "check", "--read-data")
        self.call(self.far, "restore", "latest", "--target", f"{self.work}/back")
        for path in pathlib.Path(source).rglob("*"):
            if path.is_file() and not filecmp.cmp(path, f"{self.work}/back/{path.relative_to(pathlib.Path(source).parent)}", shallow=False):
                sys.exit(f"{path} did not come back as it was")


def lavatube(work, sources, binary, rate, limit):
    """For each source, backed up one after the other over the same pair of machines: seconds from the start of the backup to the last
    receipt, and the seconds that the backup took of these. Both daemons are started anew for each."""
    pair, out = Lavatube(work, binary, rate), []
    for source in sources:
        pair.serve()
        time.sleep(0.3)
        start = time.monotonic()
        pair.call(pair.near, "backup", "--quiet", source)
        here = time.monotonic() - start
        pair.drain()
        try:
            pair.node.wait(limit)
        except subprocess.TimeoutExpired:
            pair.end()
            return [(None, here)] * len(sources)
        if pair.node.returncode != 0 or pair.left != 0 or pair.bad:
            sys.exit(f"the node ended with {pair.node.returncode}, {pair.left} objects left, {pair.bad}")
        time.sleep(0.1)
        pair.end()
        out.append((pair.last - start, here))
    pair.is_whole(sources[-1])
    return out


def noise(folder, mib):
    pathlib.Path(folder).mkdir()
    with open(f"{folder}/noise", "wb") as out:
        for _ in range(mib):
            out.write(os.urandom(1 << 20))
    return folder


def ideal(args, loss):
    return args.mib * 2**20 * 8 / (SHARE * (1 - loss / 100) * args.rate * 1e6) + 2 * args.delay / 1000


def compare(args, work):
    source, second = noise(f"{work}/source", args.mib), noise(f"{work}/second", args.mib)
    peers = [p for p in args.peers.split(",") if p]
    for peer in [p for p in peers if not shutil.which(p)]:
        print(f"\n!!!! SKIPPED: {peer}: it is not on PATH\n")
        peers.remove(peer)
    if peers and not (shutil.which("sshd") and shutil.which("ssh")):
        print("\n!!!! SKIPPED: all peers: there is no sshd or no ssh (Debian: openssh-server)\n")
        peers = []
    ssh = Sshd(work) if peers else None
    losses = [float(p) for p in args.loss.split(",") if p]
    own = [float(p) for p in args.own_loss.split(",") if p]
    print(f"\n{args.mib} MiB, {args.rate} Mbit/s both ways, RTT {2 * args.delay / 1000:.2f} s, medians of {args.runs}\n")
    print("| loss | tool | T s | took s | ratio to T |\n|---|---|---|---|---|")

    def row(loss, tool, takes, note=""):
        t, took = ideal(args, loss), [x for x in takes if x is not None]
        if len(took) < len(takes) or not took:
            print(f"| {loss:g} % | {tool} | {t:.2f} | > {args.limit:g} | > {args.limit / t:.1f} |", flush=True)
        else:
            m = statistics.median(took)
            print(f"| {loss:g} % | {tool}{note} | {t:.2f} | {m:.2f} | {m / t:.2f} |", flush=True)

    for loss in losses + [p for p in own if p not in losses]:
        results, here = {}, []
        for turn in range(args.runs):
            with Link(args, loss):
                folder = tempfile.mkdtemp(dir=work)
                (took, before), (then, _) = lavatube(folder, [source, second], args.lavatube, args.rate, args.limit)
                results.setdefault("lavatube", []).append(took)
                results.setdefault("lavatube, its second backup", []).append(then)
                here.append(before)
                shutil.rmtree(folder)
            for peer in peers if loss in losses else []:
                with Link(args, loss), ssh:
                    folder = tempfile.mkdtemp(dir=work)
                    results.setdefault(peer, []).append(PEERS[peer](folder, source, ssh, args.limit))
                    shutil.rmtree(folder)
        for tool, takes in results.items():
            row(loss, tool, takes, f" ({statistics.median(here):.2f} s of it backup)" if tool == "lavatube" else "")


def transfer(args, work, loss, kills, source):
    """One transfer; how many bytes arrived over there, how long it took, and how many objects crossed."""
    chance = random.Random(args.seed)
    pair = Lavatube(tempfile.mkdtemp(dir=work), args.lavatube, args.rate)
    pair.call(pair.near, "backup", "--quiet", source)
    with Link(args, loss):
        pair.serve()
        pair.drain()
        start, deaths = time.monotonic(), []
        gap = ideal(args, loss) / (kills + 1) if kills else None
        while pair.node.poll() is None or pair.left != 0:
            if time.monotonic() - start > args.limit:
                sys.exit(f"after {args.limit} s {pair.left} objects are left")
            if len(deaths) < kills:
                time.sleep(gap * chance.uniform(0.5, 1.5))
                which = "vault" if (len(deaths) + args.seed) % 2 else "node"
                deaths.append(which)
                victim = pair.serving if which == "vault" else pair.node
                # The command behind `ip netns exec` is the same process.
                victim.kill()
                victim.wait()
                if which == "vault":
                    told = set(pair.receipted)
                    shards = pair.shards()
                    missing = [o for o in told if shards.get(o, 0) < 6]
                    if missing:
                        sys.exit(f"receipted and not on every drive: {missing}")
                    pair.serve()
                else:
                    time.sleep(0.2)
                    pair.drain()
            else:
                time.sleep(0.05)
                if pair.node.poll() not in (None, 0):
                    sys.exit(f"the node ended with {pair.node.returncode}")
        took = pair.last - start
        if pair.bad:
            sys.exit(f"told: {pair.bad}")
        count = stats()["there"]
        pair.end()
    pair.is_whole(source)
    objects = len(pair.shards())
    shutil.rmtree(pair.work)
    return count, took, objects, deaths


def kill(args, work):
    source = noise(f"{work}/source", args.mib)
    print(f"\n{args.mib} MiB, {args.rate} Mbit/s both ways, RTT {2 * args.delay / 1000:.2f} s\n")
    print("| loss | kill -9 | took s | packets there | bytes there | arrived | more than without kills |\n|---|---|---|---|---|---|---|")
    for loss in [float(p) for p in args.loss.split(",") if p]:
        calm = None
        for kills in (0, args.kill):
            count, took, objects, deaths = transfer(args, work, loss, kills, source)
            calm = calm or count
            more = 100 * (count["delivered"] - calm["delivered"]) / calm["delivered"]
            names = f"{deaths.count('node')} node, {deaths.count('vault')} vault" if deaths else "none"
            print(f"| {loss:g} % | {names} | {took:.1f} | {count['packets']} | {count['bytes']} | {count['delivered']} | {more:+.2f} % |", flush=True)
    print("\nEverything crossed, was restored and compared; what was receipted lay on all drives at each death of the vault.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int)
    parser.add_argument("--rate", type=float, default=100, help="Mbit/s, both ways")
    parser.add_argument("--delay", type=float, default=1280, help="ms, one way")
    parser.add_argument("--loss", default=None, help="percents, separated by commas")
    parser.add_argument("--own-loss", default="5,10", help="the same, for lavatube alone")
    parser.add_argument("--peers", default="rsync,restic,borg")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--limit", type=float, default=600, help="seconds after which one is given up")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kill", type=int, metavar="N")
    parser.add_argument("--lavatube", help="the program [default: built from here]")
    parser.add_argument("--work", help="a folder for what is made")
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench link: only root may make network devices")
    args.mib = args.mib or (256 if args.kill else 16)
    args.loss = args.loss if args.loss is not None else ("1" if args.kill else "0,0.1,1")
    if not args.lavatube:
        run(["cargo", "build", "--release", "-p", "lavatube-cli", "-p", "lavatube-emulator"], cwd=ROOT)
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        args.lavatube = str(target / "release" / "lavatube")
        os.environ.setdefault("LAVATUBE_EMULATOR", str(target / "release" / "lavatube-emulator"))
    os.environ.setdefault("LAVATUBE_LINK", "bench")
    with tempfile.TemporaryDirectory(dir=args.work, prefix="lavatube-bench-") as work:
        try:
            (kill if args.kill else compare)(args, work)
        finally:
            run([LINK, "down"])


if __name__ == "__main__":
    main()
