"""Sorts the stacks of a profile into the stages of the server's work."""

import re

# The first stage with a matching frame takes the sample; from the inside of the kernel outwards, so
# that work which a send does for its receiver on loopback is not taken for the send's own.
KERNEL_STAGES = (
    ("tcp: the receiver's softirq", r"^(net_rx_action|__napi_poll|process_backlog|tcp_v[46]_rcv)$"),
    ("accept", r"^(io_accept|inet_accept|inet_csk_accept|do_accept)$"),
    ("send: tcp and ip", r"^(tcp_sendmsg|tcp_push|__tcp_transmit_skb|unix_stream_sendmsg)"),
    ("recv: tcp", r"^(tcp_recvmsg|inet_recvmsg|unix_stream_recvmsg|tcp_poll)"),
    ("close", r"^(tcp_close|__tcp_close|inet_release|sock_close|__fput|io_close)$"),
    ("send: request and socket", r"^(io_send(msg)?|__?sock_sendmsg|__sys_send\w+|vfs_writev?)$"),
    ("recv: request and socket", r"^(io_recv(msg)?|sock_recvmsg|__sys_recv\w+|vfs_readv?)$"),
    ("waiting and scheduling", r"^(__)?schedule|^try_to_wake_up|^ep_poll|^io_cqring_schedule$"),
    ("io_uring itself", r"^(io_|__io_|__do_sys_io_uring|__x64_sys_io_uring|tctx_task_work)"),
    ("softirq, other", r"^(do_softirq|__do_softirq|handle_softirqs|irq_exit)"),
    ("page faults", r"^(asm_exc_page_fault|exc_page_fault|handle_mm_fault)"),
)
USER_STAGES = (
    ("user: unmasking", r"wire::mask"),
    ("user: UTF-8", r"wire::utf8|simdutf8"),
    ("user: frames", r"ringwire::(wire|websocket)"),
    ("user: HTTP", r"ringwire::http|httparse"),
    ("user: hub and delivery", r"ringwire::hub|shard::deliver"),
    ("user: ring", r"ringwire::io|io_uring"),
    ("user: shard", r"ringwire::shard"),
    ("user: allocator", r"^(_?mi_|malloc|free|_int_malloc|_int_free)|alloc::"),
    ("user: copying", r"mem(cpy|move|set)"),
)
KERNEL_MARK = "_[k]"


def read_folded(lines):
    """Stacks, outermost frame first without the program's name, and their weights."""
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")[1:]
        if frames:
            yield frames, int(count)


def stage_of(frames):
    """The stage that a stack belongs to."""
    if frames[-1].endswith(KERNEL_MARK):
        marked = [frame for frame in frames if frame.endswith(KERNEL_MARK)]
        kernel = [frame.removesuffix(KERNEL_MARK) for frame in marked]
        return first_match(KERNEL_STAGES, kernel, "kernel, other")
    # The innermost frame that is known tells what the work was for.
    for frame in reversed(frames):
        stage = first_match(USER_STAGES, [frame], None)
        if stage:
            return stage
    return "user, other"


def first_match(stages, frames, otherwise):
    for stage, pattern in stages:
        expression = re.compile(pattern)
        if any(expression.search(frame) for frame in frames):
            return stage
    return otherwise


def table(stacks):
    """Shares by stage and the hottest functions, as Markdown."""
    stages, functions, total, kernel = {}, {}, 0, 0
    for frames, count in stacks:
        total += count
        kernel += count * frames[-1].endswith(KERNEL_MARK)
        stage = stage_of(frames)
        stages[stage] = stages.get(stage, 0) + count
        functions[frames[-1]] = functions.get(frames[-1], 0) + count
    if total == 0:
        return "no sample was taken: was the server busy?\n"
    lines = [f"kernel {kernel / total:.1%}, user {1 - kernel / total:.1%}\n",
             "| stage | share |", "|---|---|"]
    lines += [f"| {stage} | {count / total:.1%} |" for stage, count in by_count(stages)]
    lines += ["", "| function (_[k]: kernel) | share |", "|---|---|"]
    hottest = by_count(functions)[:FUNCTIONS]
    lines += [f"| `{name}` | {count / total:.1%} |" for name, count in hottest]
    return "\n".join(lines) + "\n"


def by_count(counts):
    return sorted(counts.items(), key=lambda item: -item[1])


FUNCTIONS = 20
