#!/usr/bin/env python3
"""Takes the same bytes over the same emulated link with lavatube and with its peers, in the same run, and prints ratios.

    cargo xtask bench link [--mib 16] [--rate 100] [--delay 1280] [--loss 0,0.1,1] [--own-loss 5,10] [--peers rsync,restic,borg] [--carriers ltp] [--runs 1]
    cargo xtask bench link --kill 12 [--mib 256] [--loss 1]
    cargo xtask bench link --neighbour cubic,bbr [--rate 20] [--rtt 100,600] [--loss 0,1] [--queue 1] [--spans 30,60,20] [--first ours]

Root only: the link is lavatube-emulator between two network namespaces (scripts/emulated-link). The bytes are incompressible.
Peers work over ssh, as their users have it; what is missing on PATH is skipped, loudly. T is what nobody can beat:
bytes / (1436/1500 x (1 - loss) x rate) + one way there and back. lavatube is timed from the start of `backup` to the last receipt: of the
first backup ever over this link, of which nothing is known, and of a second one of as many other bytes.

With --kill N, either daemon is killed with signal 9, N times in all, at random moments of a transfer. At each death of the vault everything
that was receipted must lie on its drives; at the end all must have crossed, be restored and compared, and few bytes may have crossed twice.

With --neighbour, a node with `rate = "auto"` and one TCP flow of iperf3 share one link whose queue holds --queue times what is in flight in a
round trip. One is alone, then both, then the other is alone, for so many seconds each (--spans); of each span the first part is left out
(ten round trips, or a third). Rates are of IP packets as they arrive, counted there in the same way for both; how long packets wait is what
pings beside them took beyond the round trip.
"""
import argparse, collections, filecmp, json, os, pathlib, random, re, shutil, statistics, subprocess, sys, tempfile, threading, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINK = str(ROOT / "scripts" / "emulated-link")
SHARE = 1436 / 1500
EARTH = "10.77.0.1"
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

    def __init__(self, args, loss, *more):
        self.options = ["--rate", str(args.rate), "--delay", str(args.delay), "--loss", str(loss), "--seed", str(args.seed), *more]

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

    def __init__(self, work, binary, rate, carrier="native"):
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
        if carrier != "native":
            for folder, host, other in (("near", EARTH, MOON), ("far", MOON, EARTH)):
                # LTP learns no address; over TCPCL the node connects.
                ways = {"ltp": f'listen = "{host}:{PORT}"\nconnect = "{other}:{PORT}"\n', "tcpcl": ""}[carrier]
                with open(f"{work}/{folder}/link.toml", "a") as config:
                    config.write(f'\n[dtn]\ncarrier = "{carrier}"\n{ways}')
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


def lavatube(work, sources, binary, rate, limit, carrier="native"):
    """For each source, backed up one after the other over the same pair of machines: seconds from the start of the backup to the last
    receipt, and the seconds that the backup took of these. Both daemons are started anew for each."""
    pair, out = Lavatube(work, binary, rate, carrier), []
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
            for carrier in [c for c in args.carriers.split(",") if c]:
                with Link(args, loss):
                    folder = tempfile.mkdtemp(dir=work)
                    (took, _), (then, _) = lavatube(folder, [source, second], args.lavatube, args.rate, args.limit, carrier)
                    results.setdefault(f"lavatube over {carrier}", []).append(took)
                    results.setdefault(f"lavatube over {carrier}, its second backup", []).append(then)
                    shutil.rmtree(folder)
            for peer in peers if loss in losses else []:
                with Link(args, loss), ssh:
                    folder = tempfile.mkdtemp(dir=work)
                    results.setdefault(peer, []).append(PEERS[peer](folder, source, ssh, args.limit))
                    shutil.rmtree(folder)
        for tool, takes in results.items():
            row(loss, tool, takes, f" ({statistics.median(here):.2f} s of it backup)" if tool == "lavatube" else "")


def to_nobody():
    """Datagrams that reached the moon while no process was there to take them, as its kernel counts them."""
    names, values = [line.split() for line in subprocess.run(moon("cat", "/proc/net/snmp"), stdout=subprocess.PIPE, text=True, check=True)
                     .stdout.splitlines() if line.startswith("Udp:")]
    return int(dict(zip(names[1:], values[1:]))["NoPorts"])


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
        count["nobody"] = to_nobody()
        pair.end()
    pair.is_whole(source)
    objects = len(pair.shards())
    shutil.rmtree(pair.work)
    return count, took, objects, deaths


def kill(args, work):
    source = noise(f"{work}/source", args.mib)
    print(f"\n{args.mib} MiB, {args.rate} Mbit/s both ways, RTT {2 * args.delay / 1000:.2f} s\n")
    print("| loss | kill -9 | took s | packets there | bytes there | arrived | of them to nobody | delivered more than without kills |\n|---|---|---|---|---|---|---|---|")
    for loss in [float(p) for p in args.loss.split(",") if p]:
        calm = None
        for kills in (0, args.kill):
            count, took, objects, deaths = transfer(args, work, loss, kills, source)
            # What arrives while a killed vault is not yet back was not delivered to anyone, and has to be sent again.
            delivered = count["delivered"] - count["nobody"]
            calm = calm or delivered
            more = 100 * (delivered - calm) / calm
            names = f"{deaths.count('node')} node, {deaths.count('vault')} vault" if deaths else "none"
            print(f"| {loss:g} % | {names} | {took:.1f} | {count['packets']} | {count['bytes']} | {count['delivered']} | {count['nobody']} | {more:+.2f} % |", flush=True)
    print("\nEverything crossed, was restored and compared; what was receipted lay on all drives at each death of the vault.")


# The port of a flow that stands for ours.
INSTEAD = 5301

# Runs on the moon: prints, ten times a second, the time and the bytes of our packets (UDP, or the flow's that stands for ours) and of TCP's
# that arrived since.
COUNTER = """
import socket, sys, time
tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
tap.bind((sys.argv[1], 0x0800))
tap.settimeout(0.05)
tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
told, count = time.monotonic(), {6: 0, 17: 0}
while True:
    try:
        packet = tap.recv(64)
        if len(packet) >= 20 and packet[16:20] == socket.inet_aton(sys.argv[2]) and packet[9] in count:
            ours = int.from_bytes(packet[22:24], "big") == int(sys.argv[3])
            count[17 if ours else packet[9]] += int.from_bytes(packet[2:4], "big")
    except TimeoutError:
        pass
    now = time.monotonic()
    if now - told >= 0.1:
        print(now, count[17], count[6], flush=True)
        told, count = now, {6: 0, 17: 0}
"""


class Watch:
    """What arrives on the moon and how long pings take, for as long as the block lasts."""

    def __init__(self, args):
        self.args, self.arrived, self.pings = args, [], []

    def __enter__(self):
        device = f"lt1{os.environ.get('LAVATUBE_LINK', '')}"
        self.children = []
        self.listen(moon(sys.executable, "-c", COUNTER, device, MOON, str(INSTEAD)),
                    lambda line: self.arrived.append(tuple(map(float, line.split()))))
        self.listen(earth("ping", "-n", "-i", "0.1", MOON), self.ping)
        return self

    def ping(self, line):
        if found := re.search(r"time=([\d.]+) ms", line):
            self.pings.append((time.monotonic(), float(found[1]) - 2 * self.args.delay))

    def listen(self, command, hear):
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.children.append(child)
        threading.Thread(target=lambda: [hear(line) for line in child.stdout], daemon=True).start()

    def __exit__(self, *_):
        for child in self.children:
            child.terminate()
            child.wait()

    def between(self, start, end):
        """Mbit/s of ours and of TCP, and ms that packets waited: at the middle, and at the worst of twenty."""
        ours, tcp = (sum(row[which] for row in self.arrived if start <= row[0] < end) * 8e-6 / (end - start) for which in (1, 2))
        waits = sorted(wait for at, wait in self.pings if start <= at < end) or [float("nan")]
        return ours, tcp, max(0, waits[len(waits) // 2]), max(0, waits[len(waits) * 95 // 100])


def jain(*shares):
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares)) if any(shares) else 0


class Flow:
    """A flow of TCP where ours would be: what the one beside it leaves to its own kind."""

    def __init__(self, control, seconds):
        self.control, self.seconds, self.bad, self.left, self.work = control, seconds, "", 0, None
        self.server = self.node = None

    def serve(self):
        self.server = subprocess.Popen(moon("iperf3", "-s", "-1", "-p", str(INSTEAD)), stdout=subprocess.DEVNULL)

    def drain(self):
        command = earth("iperf3", "-c", MOON, "-p", str(INSTEAD), "-C", self.control, "-t", str(self.seconds))
        self.node = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end(self):
        for child in (self.node, self.server):
            child.terminate()
            child.wait()


def first_end(args, work, source):
    """Our two ends with a backup that waits, or what stands for them."""
    if args.instead:
        return Flow(args.instead, sum(float(span) for span in args.spans.split(",")) + 5)
    pair = Lavatube(tempfile.mkdtemp(dir=work), args.lavatube, 50 * args.rate)
    settings = pathlib.Path(pair.near["LAVATUBE_VAULT"], "link.toml")
    settings.write_text('rate = "auto"\n' + settings.read_text())
    pair.call(pair.near, "backup", "--quiet", source)
    return pair


def beside(args, work, source, loss, control):
    """One neighbour on one link: rows of `Watch.between` for ours alone, both, and TCP alone."""
    pair = first_end(args, work, source)
    spans = [float(span) for span in args.spans.split(",")]
    queue = args.queue * 2 * args.delay
    with Link(args, loss, "--queue", str(queue)):
        for host in (earth, moon):
            # Room for more than the link and its queue hold; and nothing remembered of the flow before.
            run(host("sysctl", "-qw", "net.ipv4.tcp_rmem=4096 4194304 67108864", "net.ipv4.tcp_wmem=4096 4194304 67108864",
                     "net.ipv4.tcp_no_metrics_save=1"))
        server = subprocess.Popen(moon("iperf3", "-s", "-1"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        pair.serve()

        def tcp(seconds):
            command = earth("iperf3", "-c", MOON, "-C", control, "-t", str(seconds))
            return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        marks = []
        with Watch(args) as watch:
            time.sleep(1)
            marks.append(time.monotonic())
            if args.first == "ours":
                pair.drain()
                time.sleep(spans[0])
                client = tcp(spans[1] + spans[2] + 5)
            else:
                client = tcp(spans[0] + spans[1])
                time.sleep(spans[0])
                pair.drain()
            marks.append(time.monotonic())
            time.sleep(spans[1])
            marks.append(time.monotonic())
            early = pair.node.poll() is not None
            if args.first == "ours":
                pair.node.terminate()
            time.sleep(spans[2])
            marks.append(time.monotonic())
            if early or pair.bad or (args.first != "ours" and pair.node.poll() is not None):
                sys.exit(f"the node ended with {pair.node.returncode} before it should, {pair.left} objects left, {pair.bad}")
        pair.end()
        for child in (client, server):
            child.terminate()
            child.wait()
    if pair.work:
        shutil.rmtree(pair.work)
    rows = []
    for start, end in zip(marks, marks[1:]):
        rows.append(watch.between(start + max(20 * args.delay / 1000, (end - start) / 3), end))
    if args.trace:
        for at, ours, tcp in watch.arrived:
            print(f"trace {at - marks[0]:.1f} {ours * 8e-5:.2f} {tcp * 8e-5:.2f}")
    return rows if args.first == "ours" else rows[::-1]


def neighbour(args, work):
    source = None if args.instead else noise(f"{work}/source", args.mib)
    if not (shutil.which("iperf3") and shutil.which("ping")):
        sys.exit("bench link --neighbour: iperf3 or ping is missing (Debian: iperf3, iputils-ping)")
    here = pathlib.Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
    print(f"\n{args.rate} Mbit/s, a queue of {args.queue} round trips, {args.first} first, {args.instead or 'lavatube'} as ours, spans of {args.spans} s; shares of the link, ms waited: middle / 95 %\n")
    print("| RTT ms | loss | TCP | ours alone | waited | TCP alone | waited | ours beside | TCP beside | ours / TCP | Jain | waited |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for rtt in [float(rtt) for rtt in args.rtt.split(",")]:
        args.delay = rtt / 2
        for loss in [float(p) for p in args.loss.split(",") if p]:
            for control in args.neighbour.split(","):
                if control not in here:
                    print(f"\n!!!! SKIPPED: {control}: this kernel does not have it\n")
                    continue
                alone, both, tcp = beside(args, work, source, loss, control)
                share = lambda mbit: f"{100 * mbit / args.rate:.1f} %"
                wait = lambda row: f"{row[2]:.0f} / {row[3]:.0f}"
                print(f"| {rtt:g} | {loss:g} % | {control} | {share(alone[0])} | {wait(alone)} | {share(tcp[1])} | {wait(tcp)} | {share(both[0])} | "
                      f"{share(both[1])} | {both[0] / max(both[1], 1e-9):.2f} | {jain(*both[:2]):.3f} | {wait(both)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int)
    parser.add_argument("--rate", type=float, help="Mbit/s, both ways [100; with a neighbour 20]")
    parser.add_argument("--delay", type=float, default=1280, help="ms, one way")
    parser.add_argument("--loss", default=None, help="percents, separated by commas")
    parser.add_argument("--own-loss", default="5,10", help="the same, for lavatube alone")
    parser.add_argument("--peers", default="rsync,restic,borg")
    parser.add_argument("--carriers", default="", help="what carries bundles of ours in further rows: ltp, tcpcl")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--limit", type=float, default=600, help="seconds after which one is given up")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kill", type=int, metavar="N")
    parser.add_argument("--neighbour", metavar="NAMES", nargs="?", const="cubic", help="TCP's congestion controls, separated by commas [cubic]")
    parser.add_argument("--rtt", default="100,600", help="ms, separated by commas, with a neighbour")
    parser.add_argument("--queue", type=float, default=1, help="what waits at most, in round trips, with a neighbour")
    parser.add_argument("--spans", default="30,60,20", help="seconds alone, both, and the other alone, with a neighbour")
    parser.add_argument("--first", choices=["ours", "tcp"], default="ours", help="who begins, with a neighbour")
    parser.add_argument("--instead", metavar="NAME", help="a flow of TCP with this congestion control in our place, with a neighbour")
    parser.add_argument("--trace", action="store_true", help="print Mbit/s of ours and TCP ten times a second, with a neighbour")
    parser.add_argument("--lavatube", help="the program [default: built from here]")
    parser.add_argument("--work", help="a folder for what is made")
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench link: only root may make network devices")
    args.mib = args.mib or (256 if args.kill or args.neighbour else 16)
    args.rate = args.rate or (20 if args.neighbour else 100)
    args.loss = args.loss if args.loss is not None else ("1" if args.kill else "0,1" if args.neighbour else "0,0.1,1")
    if not args.lavatube:
        run(["cargo", "build", "--release", "-p", "lavatube-cli", "-p", "lavatube-emulator"], cwd=ROOT)
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        args.lavatube = str(target / "release" / "lavatube")
        os.environ.setdefault("LAVATUBE_EMULATOR", str(target / "release" / "lavatube-emulator"))
    os.environ.setdefault("LAVATUBE_LINK", "bench")
    with tempfile.TemporaryDirectory(dir=args.work, prefix="lavatube-bench-") as work:
        try:
            (kill if args.kill else neighbour if args.neighbour else compare)(args, work)
        finally:
            run([LINK, "down"])


if __name__ == "__main__":
    main()
