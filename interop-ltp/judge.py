"""What scapy reads in a capture of LTP segments: one line each, fields as `judges.rs` has them."""

import sys

from scapy.all import rdpcap
from scapy.contrib.ltp import LTP
from scapy.layers.inet import UDP


def line(p):
    data = p.flags < 8
    report = p.flags == 8
    claims = p.ReportReceptionClaims if report else []
    assert not p.getlayer(LTP, 2) and not p.payload, "bytes behind the segment"
    if data:
        assert sum(len(part) for part in p.LTP_Payload) == p.DATA_PayloadLength
    fields = [
        p.flags,
        p.SessionOriginator,
        p.SessionNumber,
        p.DATA_ClientServiceID if data else None,
        p.DATA_PayloadOffset if data else None,
        p.DATA_PayloadLength if data else None,
        p.CheckpointSerialNo if p.flags in (1, 2, 3) else None,
        p.ReportSerialNo if p.flags in (1, 2, 3) else None,
        p.ReportSerialNo if report else None,
        p.ReportCheckpointSerialNo if report else None,
        p.ReportUpperBound if report else None,
        p.ReportLowerBound if report else None,
        p.ReportReceptionClaimCount if report else None,
        ",".join(str(c.ReceptionClaimOffset) for c in claims) if report else None,
        ",".join(str(c.ReceptionClaimLength) for c in claims) if report else None,
        p.RA_ReportSerialNo if p.flags == 9 else None,
        {12: p.CancelFromSenderReason, 14: p.CancelFromReceiverReason}.get(p.flags),
    ]
    return "\t".join("" if field is None else str(field) for field in fields)


for packet in rdpcap(sys.argv[1]):
    print(line(LTP(bytes(packet[UDP].payload))))
