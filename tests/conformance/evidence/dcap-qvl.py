"""Answers the kit's cases with the Rust dcap-qvl (`pip install dcap-qvl`): JSON lines in, JSON lines out."""
import base64
import calendar
import json
import sys
import time

import dcap_qvl

for line in sys.stdin:
    case = json.loads(line)
    request = case["request"]
    now = calendar.timegm(time.strptime(request["time"], "%Y-%m-%dT%H:%M:%SZ"))
    root = base64.b64decode("".join(case["root"].splitlines()[1:-1]))
    allowed = request["policy"].get("allowed_tcb_statuses", ["UpToDate"])
    try:
        collateral = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(request["collateral"]))
        quote = bytes.fromhex(request["quote"])
        status = dcap_qvl.verify_with_root_ca(quote, collateral, root, now).status
        passes = status in allowed
        answer = {"outcome": "accepted", "status": status} if passes else {"outcome": "refused", "reason": status}
    except BaseException as error:  # a panic of the library is not an Exception
        answer = {"outcome": "refused", "reason": f"{type(error).__name__}: {error}"}
    print(json.dumps({"id": case["id"], **answer}), flush=True)
