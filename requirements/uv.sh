#!/bin/sh
# uv with its cache in this folder, and with pip's index and certificates, which it does not read itself.
set -eu
cd "$(dirname "$0")/.."
pip_setting() {
  .local/uv/bin/python -m pip config get "global.$1" 2>/dev/null || true
}
index=${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-${PIP_INDEX_URL:-$(pip_setting index-url)}}}
certificates=${SSL_CERT_FILE:-${PIP_CERT:-$(pip_setting cert)}}
system=/etc/ssl/certs/ca-certificates.crt  # as pip does
if [ -z "$certificates" ] && [ -s "$system" ]; then certificates=$system; fi
if [ -n "$index" ]; then export UV_DEFAULT_INDEX="$index"; fi
if [ -n "$certificates" ]; then export SSL_CERT_FILE="$certificates"; fi
export UV_CACHE_DIR="${UV_CACHE_DIR:-$PWD/.local/uv-cache}"
exec .local/uv/bin/uv "$@"
