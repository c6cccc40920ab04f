# What is left when the package is removed, and when it is purged. Run by scripts/package.
export DEBIAN_FRONTEND=noninteractive
settings=/etc/ringwire/ringwire.toml
echo '# changed by whoever runs it' >>$settings
apt-get remove -q -y ringwire >/dev/null 2>&1
if command -v ringwire; then exit 1; fi
grep -q 'changed by' $settings
apt-get install -q -y --no-install-recommends /ringwire.deb >/dev/null 2>&1
# Whoever has changed the settings keeps them.
grep -q 'changed by' $settings
apt-get purge -q -y ringwire >/dev/null 2>&1
left=$(find / -xdev -name '*ringwire*' -not -path '/ringwire.deb' -not -path '/proc/*' \
  -not -path '/run/*')
[ -z "$left" ] || { echo "left behind: $left"; exit 1; }
echo "removed and purged: nothing is left"
