# What installing the package has done, in a Debian that nobody has booted. Run by scripts/package.
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -q && apt-get install -q -y --no-install-recommends /ringwire.deb; } \
  >/install.log 2>&1 || {
  cat /install.log
  exit 1
}
dpkg --verify ringwire
ringwire --version

# Nothing is set, and all that could be set is understood.
settings=/etc/ringwire/ringwire.toml
ringwire config >/tmp/defaults
ringwire config --config $settings | diff /tmp/defaults -
sed 's/^#\([a-z]\)/\1/' $settings >/tmp/all.toml
ringwire config --check /tmp/all.toml
[ "$(grep -c '^[a-z]' /tmp/all.toml)" -eq "$(grep -c '^[a-z]' /tmp/defaults)" ]

unit=/usr/lib/systemd/system/ringwire.service
systemctl is-enabled ringwire.service
# It says nothing where all is well; the manual is not part of this Debian.
said=$(systemd-analyze verify --man=no $unit 2>&1)
[ -z "$said" ] || { echo "$said"; exit 1; }
# Of 100; the less, the less a service that has been taken over could do.
systemd-analyze security --no-pager --offline=true --threshold=20 ringwire.service | tail -n 1
