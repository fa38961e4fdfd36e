"""A hostile domain's process. Its domain's socket is standard input (or it connects by itself); it speaks the daemon's protocol
raw, tries what its first argument names, and prints one line of JSON: for each attempt the errno's name, or "ok"."""

import array, ctypes, errno, fcntl, json, mmap, os, socket, struct, sys, time

libc = ctypes.CDLL(None, use_errno=True)
sequence = 0
results = {}


def name(number):
    return errno.errorcode.get(number, str(number))


def attempt(label, action):
    """Runs an action and notes how it ended."""
    try:
        action()
        results[label] = "ok"
    except OSError as failure:
        results[label] = name(failure.errno)


def call(function, *arguments):
    """A libc call that returns -1 on failure."""
    ctypes.set_errno(0)
    if function(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def ask(sock, operation, payload=b""):
    global sequence
    sequence += 1
    sock.send(struct.pack("<HI", operation, sequence) + payload)
    data, fds, _, _ = socket.recv_fds(sock, 65536, 253)
    if not data:
        raise ConnectionResetError(errno.ECONNRESET, "dropped")
    kind, _ = struct.unpack_from("<HI", data)
    return kind, data[6:], fds


def hello(sock, role=0, domain=0xFFFF):
    kind, data, fds = ask(sock, 1, struct.pack("<BH", role, domain))
    return kind


def map_grants(sock, granter, access, references):
    payload = struct.pack("<HBI", granter, access, len(references))
    payload += b"".join(struct.pack("<I", r) for r in references)
    kind, data, fds = ask(sock, 6, payload)
    assert kind == 6, kind
    (count,) = struct.unpack_from("<I", data)
    statuses = [struct.unpack_from("<hIQI", data, 4 + 18 * i) for i in range(count)]
    return statuses, fds


def given():
    sock = socket.socket(fileno=0)
    assert hello(sock) == 2
    return sock


def say():
    print(json.dumps(results), flush=True)


def wait():
    while True:
        time.sleep(1000)


def writable_run(granter, references):
    """attacks.md E1, E2."""
    sock = given()
    statuses, fds = map_grants(sock, granter, 1, references)
    results["statuses"] = [s[0] for s in statuses]
    results["descriptors"] = len(fds)
    fd = fds[0]
    size = os.fstat(fd).st_size
    results["size"] = size
    attempt("shrink", lambda: os.ftruncate(fd, 0))
    attempt("grow", lambda: os.ftruncate(fd, size + 4096))
    for _ in range(200):
        for length in (0, 4096, size - 1, size * 2):
            try:
                os.ftruncate(fd, length)
            except OSError:
                pass
    # A hole reads as zeroes: what a writer may do to its own page anyway.
    punch = lambda: call(libc.fallocate, fd, 3, ctypes.c_long(0), ctypes.c_long(4096))
    attempt("punch", punch)
    attempt("unseal", lambda: fcntl.fcntl(fd, 1033, 0x0010))
    # Every byte that any descriptor of ours reaches.
    found = b""
    for each in fds:
        found += os.pread(each, 1 << 24, 0)
    results["canary"] = b"SECRET" in found
    results["reached"] = len(found)
    beyond = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    beyond.close()
    say()
    wait()


def read_only_run(granter, references):
    """attacks.md E3, E4."""
    sock = given()
    results["map for writing"] = map_grants(sock, granter, 1, references)[0][0][0]
    statuses, fds = map_grants(sock, granter, 0, references)
    results["map for reading"] = statuses[0][0]
    fd = fds[0]
    size = os.fstat(fd).st_size
    attempt("mmap", lambda: mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE))
    libc.mmap.restype = ctypes.c_void_p
    address = libc.mmap(None, ctypes.c_size_t(size), 1, 1, fd, ctypes.c_long(0))
    attempt("mprotect", lambda: call(libc.mprotect, ctypes.c_void_p(address), ctypes.c_size_t(size), 3))
    attempt("pwrite", lambda: os.pwrite(fd, b"x", 0))
    source = os.open("/proc/self/exe", os.O_RDONLY)
    attempt("sendfile", lambda: os.sendfile(fd, source, 0, 16))
    reader, writer = os.pipe()
    os.write(writer, b"x" * 16)
    attempt("splice", lambda: os.splice(reader, fd, 16, offset_dst=0))
    attempt("punch", lambda: call(libc.fallocate, fd, 3, ctypes.c_long(0), ctypes.c_long(4096)))
    path = "/proc/self/fd/%d" % fd
    try:
        again = os.open(path, os.O_RDWR)
    except OSError as failure:
        results["reopen"] = name(failure.errno)
    else:
        results["reopen"] = "ok"
        attempt("reopened mmap", lambda: mmap.mmap(again, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE))
        attempt("reopened pwrite", lambda: os.pwrite(again, b"x", 0))
        attempt("reopened punch", lambda: call(libc.fallocate, again, 3, ctypes.c_long(0), ctypes.c_long(4096)))
        attempt("reopened truncate", lambda: os.ftruncate(again, 0))
    first = os.pread(fd, 4, size - 4)
    time.sleep(0.1)
    results["owner still writes"] = first != os.pread(fd, 4, size - 4)
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    attempt("reopen as another user", lambda: os.open(path, os.O_RDWR))
    say()
    wait()


def bell(remote, port):
    """attacks.md E5, E6."""
    sock = given()
    kind, data, fds = ask(sock, 9, struct.pack("<HI", remote, port))
    assert kind == 8, kind
    mine, theirs = fds
    attempt("eat", lambda: os.read(theirs, 4096))
    attempt("forge", lambda: os.write(mine, b"x"))
    # Saturate the bell.
    os.set_blocking(theirs, False)
    written = 0
    try:
        while written < 1 << 24:
            written += os.write(theirs, b"x" * 4096)
    except BlockingIOError:
        pass
    results["saturated"] = written < 1 << 24
    path = "/proc/self/fd/%d" % theirs
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    attempt("eat as another user", lambda: os.read(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 4096))
    say()
    # Only now, and once: was the other side kept from ringing?
    sys.stdin = None
    while True:
        time.sleep(0.5)
        try:
            if os.read(mine, 1 << 16):
                os.write(theirs, b"y")
        except BlockingIOError:
            pass


def connect(directory):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(5)
    sock.connect(directory + "/hypervisor.sock")
    return sock


def dropped(sock):
    """Whether the daemon has closed the connection."""
    try:
        return sock.recv(65536) == b""
    except ConnectionResetError:
        return True
    except socket.timeout:
        return False


def descriptors(directory):
    """attacks.md E8, E9: each of these costs the connection, and nothing else."""
    import random
    random.seed(9)
    null = os.open("/dev/null", os.O_RDONLY)
    reader, writer = os.pipe()
    plain = libc.memfd_create(b"plain", 1)
    cases = {
        "one file": (b"\x01\x00\x01\x00\x00\x00\x02\xff\xff", [null]),
        "pipe": (b"\x01\x00\x01\x00\x00\x00\x02\xff\xff", [reader]),
        "unsealed memory": (b"\x01\x00\x01\x00\x00\x00\x02\xff\xff", [plain]),
        "three": (b"\x0b\x00\x01\x00\x00\x00", [null, reader, plain]),
        "253": (b"junk", [null] * 253),
        "empty with descriptors": (b"x", [null] * 7),
        "too long": (b"\x06" * 60000, []),
        "unknown": (struct.pack("<HI", 999, 1), []),
        "short": (b"\x06", []),
        "count without items": (struct.pack("<HIHBI", 6, 1, 0, 0, 0xFFFFFFFF), []),
        "trailing": (struct.pack("<HIBHB", 1, 1, 2, 0xFFFF, 0), []),
    }
    for label, (payload, fds) in cases.items():
        sock = connect(directory)
        try:
            socket.send_fds(sock, [payload], fds) if fds else sock.send(payload)
            results[label] = dropped(sock)
        except OSError as failure:
            results[label] = failure.errno in (errno.EPIPE, errno.ECONNRESET)
        sock.close()
    ends = 0
    for _ in range(300):
        sock = connect(directory)
        try:
            payload = bytes(random.getrandbits(8) for _ in range(random.randrange(1, 200)))
            socket.send_fds(sock, [payload], [null] * random.randrange(0, 60))
            sock.settimeout(2)
            sock.recv(65536)
        except OSError:
            pass
        sock.close()
        ends += 1
    results["rounds"] = ends
    # 1000 descriptors in flight, never received by a living connection.
    for _ in range(5):
        sock = connect(directory)
        for _ in range(4):
            try:
                socket.send_fds(sock, [b"junk"], [null] * 250)
            except OSError:
                break
        sock.close()
    say()


def identity(directory, claimed):
    """attacks.md E11: on a socket that was handed over, and on sockets of another user."""
    sock = socket.socket(fileno=0)
    wrong = [d for d in range(0, 65536, 97) if hello(sock, 1, d) != 1]
    results["accepted on a given socket"] = wrong
    results["control on a given socket"] = hello(sock, 2) == 2
    results["own"] = hello(sock, 0) == 2
    results["create"] = ask(sock, 12, struct.pack("<HIB", 77, 0xFFFFFFFF, 0))[0] == 9
    results["destroy"] = ask(sock, 14, struct.pack("<H", 2))[0] == 0
    results["usage of another"] = ask(sock, 16, struct.pack("<H", 2))[0] == 11
    os.setresgid(4242, 4242, 4242)
    os.setresuid(4242, 4242, 4242)
    accepted = []
    for domain in list(range(0, 6)) + [claimed, 0x7FF0, 0xFFFE]:
        other = connect(directory)
        if hello(other, 1, domain) == 2:
            accepted.append(domain)
        other.close()
    results["accepted as another user"] = sorted(set(accepted))
    other = connect(directory)
    results["control as another user"] = hello(other, 2) == 2
    results["before hello"] = ask(connect(directory), 2)[0] == 3
    say()


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def reach(process, address, user):
    """attacks.md E12: everything by which one process reads another."""
    if user:
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    buffer = ctypes.create_string_buffer(6)
    local = Vector(ctypes.cast(buffer, ctypes.c_void_p), 6)
    remote = Vector(address, 6)

    def vm_read():
        call(libc.process_vm_readv, process, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
        assert buffer.raw == b"secret"

    def proc_mem():
        fd = os.open("/proc/%d/mem" % process, os.O_RDWR)
        assert os.pread(fd, 6, address) == b"secret"

    def take_descriptor():
        pidfd = os.pidfd_open(process)
        call(libc.syscall, ctypes.c_long(438), pidfd, 1, 0)

    attempt("process_vm_readv", vm_read)
    attempt("/proc/PID/mem", proc_mem)
    attempt("/proc/PID/fd", lambda: os.listdir("/proc/%d/fd" % process))
    attempt("/proc/PID/maps", lambda: open("/proc/%d/maps" % process).read())
    attempt("pidfd_getfd", take_descriptor)
    attempt("ptrace", lambda: call(libc.ptrace, 16, process, 0, 0))
    if results["ptrace"] == "ok":
        os.waitpid(process, 0x40000000)
        libc.ptrace(17, process, 0, 0)
    say()


verb, arguments = sys.argv[1], sys.argv[2:]
if verb == "writable":
    writable_run(int(arguments[0]), [int(a) for a in arguments[1:]])
elif verb == "readonly":
    read_only_run(int(arguments[0]), [int(a) for a in arguments[1:]])
elif verb == "bell":
    bell(int(arguments[0]), int(arguments[1]))
elif verb == "descriptors":
    descriptors(arguments[0])
elif verb == "identity":
    identity(arguments[0], int(arguments[1]))
elif verb == "reach":
    reach(int(arguments[0]), int(arguments[1]), int(arguments[2]))
