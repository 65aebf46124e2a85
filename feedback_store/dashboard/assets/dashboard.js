// What scripts add to the pages, which work without them: a page that looks again, keys, dialogs, charts read by pointer.

import { annotate } from "./annotate.js";
import { charts } from "./charts.js";
import { inbox } from "./inbox.js";
import { keys } from "./keys.js";
import { live } from "./live.js";

document.documentElement.dataset.script = "";
// On a phone the entries of the navigation scroll sideways: where one is should be seen.
document.querySelector(".top nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
// The lineage grows to the right, and its newest versions are what one looks for.
for (const box of document.querySelectorAll(".scroller:has(> .lineage)")) box.scrollLeft = box.scrollWidth;
keys();
charts(document);
inbox();
annotate();
live();
