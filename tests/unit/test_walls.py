"""The numbers of the decoder's system call filter against the kernel's own headers."""

from __future__ import annotations

import platform
import re
import struct
from pathlib import Path

import pytest

from sttd.worker import walls

# What no decoder may do, by the kernel's names. Not every architecture has all of them.
BARRED = set(
    """
    socket connect accept accept4 bind listen socketpair
    clone clone3 fork vfork execve execveat kill tkill rt_sigqueueinfo rt_tgsigqueueinfo
    ptrace process_vm_readv process_vm_writev kcmp pidfd_open pidfd_getfd pidfd_send_signal
    process_madvise shmget shmat shmctl
    rename renameat renameat2 mkdir mkdirat rmdir creat link linkat unlink unlinkat symlink
    symlinkat mknod mknodat chmod fchmodat fchmodat2 chown lchown fchownat truncate
    setxattr lsetxattr removexattr lremovexattr utime utimes futimesat utimensat
    fchmod fchown fsetxattr fremovexattr setxattrat removexattrat file_setattr open_tree_attr
    setpriority sched_setparam sched_setscheduler sched_setaffinity sched_setattr ioprio_set
    migrate_pages move_pages
    mount umount2 pivot_root chroot swapon swapoff mount_setattr move_mount open_tree fsopen
    fsconfig fsmount fspick init_module finit_module delete_module kexec_load kexec_file_load
    reboot sethostname setdomainname acct quotactl
    add_key request_key keyctl settimeofday adjtimex clock_settime clock_adjtime
    inotify_init inotify_init1 fanotify_init name_to_handle_at open_by_handle_at
    perf_event_open bpf userfaultfd unshare setns memfd_create memfd_secret
    io_uring_setup io_uring_enter io_uring_register openat2 personality syslog close_range
    faccessat2 quotactl_fd
    """.split()  # noqa: SIM905 (easier to read)
)
# Which argument is looked at. Limits may be set for oneself alone, whose number is 0.
PARTLY = {"open": 1, "openat": 2, "mmap": 2, "mprotect": 2, "pkey_mprotect": 2, "prlimit64": 0}
HEADERS = {
    "x86_64": ("x86_64-linux-gnu/asm/unistd_64.h", "asm/unistd_64.h"),
    "aarch64": ("asm-generic/unistd.h",),
}
ARCHES = {"x86_64": 62, "aarch64": 183}  # EM_* of <linux/elf-em.h>
PID = 4711
AUDIT = 0xC0000000  # __AUDIT_ARCH_64BIT | __AUDIT_ARCH_LE of <linux/audit.h>


def table(machine: str) -> dict[str, int]:
    """Name to number, from the installed headers; skip where there are none.

    Where asm-generic writes __NR3264_, the numbers are those of the plain names on 64 bits.
    """
    for name in HEADERS[machine]:
        path = Path("/usr/include") / name
        if path.exists():
            text = path.read_text()
            return {
                m[1]: int(m[2])
                for m in re.finditer(
                    r"^#define __NR(?:3264)?_(\w+)\s+(\d+)\s*$", text, re.MULTILINE
                )
            }
    pytest.skip(f"no kernel headers for {machine} (apt: linux-libc-dev)")


def denied(machine: str) -> set[int]:
    _, numbers = walls._DENIED[machine]
    return {*numbers, *walls._EVERYWHERE, *walls._LATER}


@pytest.mark.parametrize("machine", HEADERS)
def test_every_number_in_the_filter_is_a_call_and_the_bad_ones_are_in_it(machine: str) -> None:
    numbers = table(machine)
    names = {number: name for name, number in numbers.items()}
    newest = max(names)
    unknown = {n for n in denied(machine) if n not in names and n <= newest}
    assert unknown == set()
    missing = sorted(
        name for name in BARRED if name in numbers and numbers[name] not in denied(machine)
    )
    assert missing == []
    for number, argument, _bits in walls._PARTLY[machine]:
        assert PARTLY[names[number]] == argument
    covered = {names[number] for number, _argument, _bits in walls._PARTLY[machine]}
    assert covered == set(PARTLY) & set(numbers)


@pytest.mark.parametrize("machine", HEADERS)
def test_nothing_that_a_decoder_needs_is_in_the_filter(machine: str) -> None:
    numbers = table(machine)
    needed = """
        read write readv writev close fstat lseek pread64 mmap munmap mprotect brk mremap madvise
        rt_sigaction rt_sigprocmask rt_sigreturn sendto recvfrom sendmsg recvmsg poll ppoll
        epoll_ctl epoll_pwait futex getrandom getpid gettid exit exit_group clock_gettime
        clock_nanosleep nanosleep sched_yield sched_getaffinity getrusage prlimit64 setrlimit
        dup dup3 fcntl restart_syscall
    """.split()  # noqa: SIM905 (easier to read)
    assert [n for n in needed if n in numbers and numbers[n] in denied(machine)] == []


@pytest.mark.parametrize("machine", HEADERS)
def test_the_architecture_is_the_audit_systems_name_of_it(machine: str) -> None:
    architecture, _ = walls._DENIED[machine]
    assert architecture == AUDIT | ARCHES[machine]


# -- the program itself, run as the kernel would ---------------------------------------------------
def verdict(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the filter answers: a small interpreter of the classic BPF it is made of."""
    arch = walls._DENIED[machine][0] if architecture is None else architecture
    data = struct.pack("=IIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    program = list(walls._instructions(machine, PID))
    at = accumulator = 0
    while True:
        code, if_true, if_false, value = struct.unpack("=HBBI", program[at])
        at += 1
        match code:
            case walls._LOAD:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case walls._EQUAL:
                at += if_true if accumulator == value else if_false
            case walls._AT_LEAST:
                at += if_true if accumulator >= value else if_false
            case walls._ANY_BIT:
                at += if_true if accumulator & value else if_false
            case walls._RETURN:
                return int(value)
            case _:
                raise AssertionError(f"an instruction we do not use: {code:#x}")


@pytest.mark.parametrize("machine", HEADERS)
def test_the_filter_says_no_to_each_and_yes_to_the_rest(machine: str) -> None:
    assert 0 < len(list(walls._instructions(machine, PID))) < 4096  # BPF_MAXINSNS
    tgkill = walls._TGKILL[machine]
    assert tgkill == table(machine)["tgkill"]
    assert verdict(machine, tgkill, PID) == walls._ALLOW
    assert verdict(machine, tgkill, PID + 1) == verdict(machine, tgkill) == walls._DENY
    for number in set(range(600)) - {tgkill}:
        wish = walls._DENY if number in denied(machine) else walls._ALLOW
        assert verdict(machine, number) == wish, number
    for number, argument, bits in walls._PARTLY[machine]:
        zeros = [0] * argument
        for bit in (1 << n for n in range(32) if bits & 1 << n):
            assert verdict(machine, number, *zeros, bit) == walls._DENY
        assert verdict(machine, number, *zeros, 0x7FFFFFFF & ~bits) == walls._ALLOW


@pytest.mark.parametrize("machine", HEADERS)
def test_calls_by_another_table_kill(machine: str) -> None:
    assert verdict(machine, 0, architecture=0x40000003) == walls._KILL  # i386's
    if machine == "x86_64":
        assert verdict(machine, walls._X32) == walls._DENY


def test_this_machine_has_a_filter_or_is_said_to_have_none() -> None:
    if platform.machine() not in walls._DENIED:
        assert not walls.seccomp()
