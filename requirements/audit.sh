#!/bin/sh
# Looks for known vulnerabilities in the pinned dependencies of the files given. Ends with 1 if there are any, and with 3
# if nobody could be asked: then nothing is known, and that must not look like "none".
set -u
pip_audit=${PIP_AUDIT:-.local/security/bin/pip-audit}
log=$(mktemp) && trap 'rm -f "$log"' EXIT
found=0
for file in "$@"; do
  echo "$file"
  for service in pypi osv; do
    "$pip_audit" --strict --disable-pip --require-hashes --progress-spinner off --vulnerability-service "$service" \
      --requirement "$file" >"$log" 2>&1 && status=0 || status=$?
    if [ "$status" -eq 0 ]; then break; fi
    if grep -q "^Found [0-9]* known vulnerabilit" "$log"; then found=1 && cat "$log" && break; fi
    echo "  $service: $(tail -n 1 "$log")" >&2
    status=3
  done
  if [ "$status" -eq 3 ]; then
    echo "NOT AUDITED: neither PyPI nor OSV says which vulnerabilities are known; the reasons are above." >&2
    exit 3
  fi
done
if [ "$found" -eq 0 ]; then echo "No known vulnerabilities in $# files."; fi
exit "$found"
