"""Interpreters that have torch and its like already: what a test starts runs at once, without seconds of imports.

`subprocess.run([*PYTHON, "-m", "memorization.recover", ...])` does what `[sys.executable, "-m", ...]` does, and so
with `-c CODE` and with a script; working directory, environment, pipes, signals and exit status are as ever.

A server, one for a whole test run, imports `PACKAGES` and nothing of ours, starts no thread, and forks a process for
each call, which imports ours afresh. What a test starts is a small process in between: it gives its files, directory
and environment to the server, passes signals on, and ends as the forked one does, which does not outlive it. It
becomes a plain interpreter where there is no server, or where variables differ that were read at import.

Not as ever: the process has another id than the one that was started, none of the limits (`ulimit`) that were set for
that one, and the hash seed of the whole test run; it does not end with the parent of the one that was started. What is
about these, or about imports, takes `sys.executable`. So do the processes that a command starts in its turn, joblib's
and Lightning's for instance, unless the variable `CHILDREN` is set: then they are forked from the server, too.
"""

import atexit
import contextlib
import json
import os
import signal
import socket
import sys

PYTHON = [sys.executable, "-I", "-S", __file__]
SERVER = "MEMORIZATION_TESTS_SERVER"  # the variable that tells the processes of a test run of their server
CHILDREN = "MEMORIZATION_TESTS_CHILDREN"  # see above; its value is what stands for `sys.executable`
READ_AT_IMPORT = ("PYTHON", "OMP_", "MKL_", "OPENBLAS_")  # how the names of such variables begin
# None that makes anything as it is imported, as wandb does: a temporary folder, which goes with the first to end.
PACKAGES = """
    filelock hydra hydra._internal.hydra joblib jinja2 omegaconf pandas pyarrow.dataset pyarrow.parquet
    pytorch_lightning safetensors.torch scipy.stats skimage.metrics skimage.transform sklearn.datasets
    sklearn.feature_extraction torch torchmetrics
"""

STATUS = []  # with which the forked process ends, where that is known


def read_at_import():
    return {k: v for k, v in os.environ.items() if k.startswith(READ_AT_IMPORT) and k != "PYTHONPATH"}


def start():
    """Start the server of this test run, unless it has one; it ends with this process."""
    import shutil
    import subprocess
    import tempfile

    if SERVER in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="tests-")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["JE_ARROW_MALLOC_CONF"] = "background_thread:false"  # pyarrow's, whose thread a fork would lose
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{folder}/server")
        listening.listen(64)  # who calls early waits
        number = listening.fileno()
        server = subprocess.Popen(
            [sys.executable, __file__, "serve", str(number)], env=environment, stdin=subprocess.PIPE, pass_fds=[number]
        )
    os.environ[SERVER] = json.dumps([f"{folder}/server", read_at_import()])
    with open(executable(), "w", opener=lambda path, flags: os.open(path, flags, 0o755)) as file:
        file.write('#!/bin/sh\nexec {} "$@"\n'.format(" ".join(PYTHON)))
    atexit.register(lambda: (server.kill(), server.communicate(), shutil.rmtree(folder)))


def executable():
    """A file that does what `PYTHON` does, beside the server's address."""
    return json.loads(os.environ[SERVER])[0].removesuffix("server") + "python"


def serve(listening):
    """Fork whenever somebody calls, until stdin ends; returns, in a forked process, the words to run."""
    import gc
    import importlib
    import select

    for package in PACKAGES.split():
        importlib.import_module(package)
    gc.freeze()
    while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        caller, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            return called(caller)
        caller.close()
    os._exit(0)


def called(caller):
    """In a process of its own, become what the caller asked for, and return its words; this one waits for its end."""
    import fcntl
    import select

    size, files, _, _ = socket.recv_fds(caller, 8, 64)
    folder, environment, numbers, words = json.loads(caller.recv(int(size), socket.MSG_WAITALL))
    noticed, noticing = os.pipe()
    os.set_blocking(noticing, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(noticing)
    if process := os.fork():
        for file in files:
            os.close(file)
        over = 0
        while not over:
            if caller in select.select([caller, noticed], [], [])[0]:
                number = caller.recv(1)
                os.kill(process, number[0] if number else signal.SIGKILL)  # whoever called is gone
            over, status = os.waitpid(process, os.WNOHANG)
        with caller, contextlib.suppress(BrokenPipeError):
            caller.send(b"%d" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    above = [fcntl.fcntl(file, fcntl.F_DUPFD, 1 + max(numbers)) for file in files]  # in no other's place
    for file in (*files, noticed, noticing, caller.detach()):
        os.close(file)
    for file, number in zip(above, numbers, strict=True):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    return words


def run(words):
    """What an interpreter does with its words, of which the first is -m, -c or a script."""
    import importlib
    import multiprocessing
    import runpy
    import types
    from pathlib import Path

    if CHILDREN in os.environ:
        sys.executable = os.environ[CHILDREN]
        multiprocessing.set_executable(sys.executable)
    kind, first = words[0], {"-m": str(Path.cwd()), "-c": ""}.get(words[0], str(Path(words[0]).parent))
    added = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [first, *(str(Path(folder).absolute()) for folder in added if folder)]  # for this file's folder
    importlib.invalidate_caches()
    sys.argv = words if kind not in ("-m", "-c") else [kind, *words[2:]]
    try:
        if kind == "-m":
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        elif kind == "-c":
            sys.modules["__main__"] = main = types.ModuleType("__main__")
            exec(compile(words[1], "<string>", "exec"), vars(main))
        else:
            runpy.run_path(words[0], run_name="__main__")
        STATUS.append(0)
    except SystemExit as end:
        STATUS.extend([end.code or 0] if isinstance(end.code, int | None) else [])
        raise


def leave():
    """Once all else is done, end without taking all of torch apart, which takes as long as to import ours."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
        if STATUS:
            os._exit(STATUS[0])


def is_open(file):
    with contextlib.suppress(OSError):
        return bool(os.fstat(file))


def call(words):
    """Have the server run these words, and end as they do."""
    address, usual = json.loads(os.environ.get(SERVER, "[null, null]"))
    if read_at_import() != usual or words[:2] == ["-m", "submitit.local._local"]:  # whose files are called by its id
        os.execv(sys.executable, [sys.executable, *words])
    while words[0] in ("-u", "-B"):  # how the server writes, all do
        words = words[1:]
    files = [number for number in range(64) if is_open(number)]
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        asked = json.dumps([os.path.realpath("."), {**os.environ}, files, words]).encode()
        socket.send_fds(server, [b"%8d" % len(asked)], files)
        server.sendall(asked)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, _: server.send(bytes([number])))
        status = int(server.recv(8) or 70)
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        atexit.register(leave)  # the first, and so the last to be called
        run(serve(socket.socket(fileno=int(sys.argv[2]))))
    else:
        call(sys.argv[1:])
