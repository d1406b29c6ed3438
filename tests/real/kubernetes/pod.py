"""Runs a command as a container of a pod would run: in a root that holds nothing but what the image has, read-only
where the manifest says so, with the manifest's volumes, user, groups and capabilities. Comes in: the path of a JSON file
(tests/real/pod.rs writes it). Never returns: it becomes the command. Started in fresh mount and process
namespaces by unshare(1); without root also in a user namespace in which we already are the user.

Not as in a cluster: no seccomp filter, and the network is the machine's own.
"""
import ctypes
import json
import os
import pathlib
import sys

RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND = 1, 2, 4, 8, 32, 4096
PDEATHSIG, CAPBSET_DROP, NO_NEW_PRIVS, CAP_AMBIENT, AMBIENT_CLEAR = 1, 24, 38, 47, 4
LAST_CAPABILITY = 63

libc = ctypes.CDLL(None, use_errno=True)
spec = json.loads(pathlib.Path(sys.argv[1]).read_text())
root = pathlib.Path(spec["root"])


def mount(source, target, kind=None, flags=0, data=None):
    text = [None if value is None else str(value).encode() for value in (source, target, kind, data)]
    if libc.mount(text[0], text[1], text[2], ctypes.c_ulong(flags), text[3]) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"mount {source} on {target}: {os.strerror(error)}")


def kept_flags(path):
    """What a mount of another owner holds locked must be said again."""
    known = {os.ST_RDONLY: RDONLY, os.ST_NOSUID: NOSUID, os.ST_NODEV: NODEV, os.ST_NOEXEC: NOEXEC}
    flags = os.statvfs(path).f_flag
    return sum(flag for bit, flag in known.items() if flags & bit)


def bind(source, inside, read_only):
    target = root / inside.lstrip("/")
    if os.path.isdir(source):
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount(source, target, flags=BIND)
    if read_only:
        mount(None, target, flags=REMOUNT | BIND | RDONLY | kept_flags(target))


if spec["cgroup"]:
    # "0" is whoever writes, in whatever process namespace.
    pathlib.Path(spec["cgroup"]).write_text("0")
mount("tmpfs", root, "tmpfs", NOSUID | NODEV, "mode=755")
for source, inside in spec["image"]:
    bind(source, inside, True)
(root / "tmp").mkdir(exist_ok=True)
(root / "tmp").chmod(0o1777)
(root / "proc").mkdir()
mount("proc", root / "proc", "proc", NOSUID | NODEV | NOEXEC)
for device in ["null", "zero", "random", "urandom"]:
    bind(f"/dev/{device}", f"/dev/{device}", False)
for volume in spec["volumes"]:
    bind(volume["source"], volume["path"], volume["read_only"])
if spec["read_only_root"]:
    mount(None, root, flags=REMOUNT | RDONLY | NOSUID | NODEV)

os.chroot(root)
os.chdir("/")
if spec["drop_capabilities"]:
    for capability in range(LAST_CAPABILITY + 1):
        libc.prctl(CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0)
if spec["become_user"]:
    os.setgroups(spec["groups"])
    os.setresgid(spec["gid"], spec["gid"], spec["gid"])
    os.setresuid(spec["uid"], spec["uid"], spec["uid"])
libc.prctl(CAP_AMBIENT, ctypes.c_ulong(AMBIENT_CLEAR), 0, 0, 0)
if spec["drop_capabilities"]:
    # What is left of ours, the inheritable ones too: version 3, this process; three sets of two words, empty.
    libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
if spec["no_new_privileges"]:
    libc.prctl(NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0)
# Changing the user forgets what unshare had set: end with it.
libc.prctl(PDEATHSIG, ctypes.c_ulong(9), 0, 0, 0)
os.execve(spec["command"][0], spec["command"], spec["environment"])
