"""When a person's words may be kept: the one rule, used wherever text is about to be stored."""

from feedback_store.records import Rater
from feedback_store.settings import PrivacySettings


def may_keep_text(privacy: PrivacySettings, rater: Rater | None, channel: str) -> bool:
    """Say whether text of `rater` that came over `channel` may be kept.

    A refusal is always honoured. A yes counts for the consent text it was given to (`privacy.consent_version`) and
    later ones are asked again. Over the bare API the calling program may vouch for its users (`privacy.api_consent`);
    a bot or page that speaks to people itself never may.
    """
    if rater is not None and rater.consent is False:
        return False
    if rater is not None and rater.consent and (rater.consent_version or 0) >= privacy.consent_version:
        return True
    return channel == "api" and privacy.api_consent == "host"
