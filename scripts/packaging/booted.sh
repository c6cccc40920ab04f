# What the service does under a systemd that has booted. Run by scripts/package.
property() { systemctl show --property "$1" --value ringwire.service; }
fail() {
  echo "FAILED: $*"
  systemctl status --no-pager --lines 30 ringwire.service
  exit 1
}
# $1: what is waited for; the rest is a command that succeeds then.
await() {
  what=$1
  shift
  for _ in $(seq 300); do
    if "$@"; then return 0; fi
    sleep 0.1
  done
  fail "waited in vain until $what"
}
is() { [ "$(property "$1")" = "$2" ]; }
tells() { property StatusText | grep -q "$1"; }
# A test of the service as it is now.
echo_works() {
  ringwire bench "ws://127.0.0.1:$1/echo" --connections 10 --warmup 100ms --duration 1s \
    >/tmp/bench 2>&1 || { cat /tmp/bench; fail "no echo"; }
}
drop_in() {
  mkdir -p /etc/systemd/system/ringwire.service.d
  printf '[Service]\n%s\n' "$1" >/etc/systemd/system/ringwire.service.d/trial.conf
  systemctl daemon-reload
}
settings=/etc/ringwire/ringwire.toml

echo "systemd $(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p'), kernel $(uname -r)"
is ActiveState active || fail "it is not active when what follows it starts"
is NotifyAccess main || fail "not the unit that was meant"
is WatchdogUSec 30s || fail "not the unit that was meant"
await "its state is told" tells "^0 WebSockets open$"
pid=$(property MainPID)
# systemd gives dynamic users numbers from 61184 on.
[ "$(stat -c %u "/proc/$pid")" -ge 61184 ] || fail "it has no user of its own"
grep -q '^Seccomp:.2$' "/proc/$pid/status" || fail "no filter looks at its system calls"
echo_works 7071
ringwire health
echo "serves"

before=$(property MainPID)
echo 'max-message = "1KiB"' >>$settings
systemctl reload ringwire || fail "no reload of a file that is right"
journalctl --sync
journalctl -u ringwire | grep -q 'settings reloaded' || fail "no reload"
echo 'max-message = "none"' >>$settings
if systemctl reload ringwire 2>/dev/null; then fail "a wrong file is taken"; fi
is ActiveState active || fail "a refused reload ends it"
is MainPID "$before" || fail "a refused reload ends it"
sed -i '/^max-message/d' $settings
systemctl reload ringwire || fail "no reload after one that was refused"
echo "reloads, and refuses a file that is wrong"

# A drain that takes longer than the unit allows for.
drop_in 'TimeoutStopSec=2s
Environment=RINGWIRE_DRAIN=10s'
systemctl restart ringwire
ringwire bench ws://127.0.0.1:7071/echo idle --connections 20 --duration 60s --allow-failures \
  >/dev/null 2>&1 &
await "they are open" tells "^20 WebSockets open"
begin=$(date +%s)
systemctl stop ringwire
took=$(($(date +%s) - begin))
kill -KILL $! 2>/dev/null || true
is Result success || fail "stopped with $(property Result) after $took s"
[ "$took" -ge 4 ] || fail "stopped after $took s"
echo "is given the time that its drain takes: $took s"

drop_in 'WatchdogSec=2s'
systemctl restart ringwire
sleep 5
is NRestarts 0 || fail "the watchdog is not fed"
kill -STOP "$(property MainPID)"
await "the watchdog has it started anew" is NRestarts 1
await "it serves again" is ActiveState active
kill -KILL "$(property MainPID)"
await "it is started anew" is NRestarts 2
await "it serves again" is ActiveState active
echo_works 7071
echo "is started anew when it hangs, and when it is killed"

systemctl stop ringwire
rm -r /etc/systemd/system/ringwire.service.d
cp /usr/share/doc/ringwire/examples/systemd/ringwire.socket /etc/systemd/system/
echo 'listen = ["systemd:ringwire.socket"]' >>$settings
systemctl daemon-reload
systemctl start ringwire.socket
is ActiveState inactive || fail "it has not been asked for"
echo_works 7071
is ActiveState active || fail "nobody has started it"
systemctl restart ringwire
echo_works 7071
systemctl stop ringwire.socket ringwire
# A socket for each shard, which the kernel spreads connections over.
cat >/etc/systemd/system/ringwire.socket <<END
[Socket]
ReusePort=yes
ListenStream=127.0.0.1:7079
ListenStream=127.0.0.1:7079
END
drop_in 'Environment=RINGWIRE_SHARDS=2'
systemctl start ringwire.socket
echo_works 7079
grep -q 'listening on ws://127.0.0.1:7079/' <<END || fail "it listens elsewhere"
$(journalctl -u ringwire)
END
systemctl stop ringwire.socket ringwire
sed -i '/^listen/d' $settings
rm -r /etc/systemd/system/ringwire.socket /etc/systemd/system/ringwire.service.d
systemctl daemon-reload
systemctl start ringwire
echo "is started by its socket, also by one for each shard"

systemctl stop ringwire
is Result success || fail "the last stop"
