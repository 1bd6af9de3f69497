"""The audit of a robust number: what it claims, what holds, and why.

An audit attacks a model harder than the evaluation behind a claim did, checks by published signs whether the attacks
can be trusted, and returns a verdict on each claim together with the verified accuracy.
"""

from trainables.audit.audit import audit, cheap_claim
from trainables.audit.evidence import PROFILES, Profile
from trainables.audit.verdict import WORDS, Audit, Claim, Verdict, worst

__all__ = ["PROFILES", "WORDS", "Audit", "Claim", "Profile", "Verdict", "audit", "cheap_claim", "worst"]
