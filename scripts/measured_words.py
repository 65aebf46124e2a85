"""The cases of README.md's figures in Simplified Chinese, for README.zh-CN.md: one pattern a headline.

A case is written by its benchmark, in English, with figures of its own in it; `\\1` is such a figure. A case without a
pattern stays English, and tests/house says so.
"""

import re

HEAD = ("", "我们", "比较对象", "比值", "单位", "由")
OUTCOMES = {"pass": "通过", "fail": "未通过", "inconclusive": "证据不足"}
UNITS = {
    "votes": "次评价",
    "votes/s": "次评价/秒",
    "rows/s": "行/秒",
    "pairs/s": "对/秒",
    "tok/s": "词元/秒",
    "MiB": "MiB",
    "min": "分钟",
    "s": "秒",
    "ms": "毫秒",
}
CASES = {
    r"99 % of the replies at 200/s within": "每秒 200 个请求时，99 % 的回复在此时间之内",
    r"acknowledged votes": "得到确认的评价",
    r"… lost": "……其中丢失",
    r"… doubled": "……其中重复",
    r"votes, mean of (\d+) seeds: win rate against the base \(lowest lower bound ([\d.]+%)\)": (
        r"真实评价，\1 个种子的平均：对基础模型的胜率（最低的下界为 \2）"
    ),
    r"reward model \+ (\w+), votes, mean of (\d+) seeds: win rate against the base \(bounds from (.+%) to (.+%)\)": (
        r"奖励模型加 \1，真实评价，\2 个种子的平均：对基础模型的胜率（界限从 \3 到 \4）"
    ),
    r"(KTO|DPO|SFT), votes, mean of (\d+) seeds: win rate against the base \(bounds from (.+%) to (.+%)\)": (
        r"\1，真实评价，\2 个种子的平均：对基础模型的胜率（界限从 \3 到 \4）"
    ),
    r"(\w+): thumbs down of version 4 about a word, 95 % within": (
        r"\1：在 10 万条回复中找出版本 4 关于某个词的踩，95 % 的页面在此时间之内"
    ),
    r"nothing learnt, promoted \((\d+) of (\d+)\)": (
        r"什么也没学到却被晋升的候选版本（\2 个中的 \1 个；比较对象：只看偏好的关卡）"
    ),
    r"planted and moved ten points: blocked \((\d+) of (\d+)\)": (
        r"植入了坏行为、偏移达十个百分点，被拦下的候选版本（\2 个中的 \1 个；比较对象：只看偏好的关卡）"
    ),
    r"votes, seed 0: time on (\d+) cores?": r"真实评价，种子 0：\1 个核上的时间",
    r"(KTO|DPO): stock trl": r"\1（比较对象：原样的 trl）",
    r"reward model: stock trl": "奖励模型（比较对象：原样的 trl）",
    r"PPO, (\d+) replies: an iteration; four models": r"PPO，\1 条回复：一次迭代（比较对象：四个模型）",
    r"PPO: peak memory \(PSS\); four models": "PPO：内存峰值（PSS；比较对象：四个模型）",
    r"shuffled, seed 0: win rate against the base (\[.*\]) \(gates: (\w+) then (\w+)\)": (
        r"打乱的评价，种子 0：对基础模型的胜率 \1（关卡：先\2，后\3）"
    ),
    r"inverted, seed 0: win rate against the base (\[.*\]) \(gates: (\w+) then (\w+)\)": (
        r"相反的评价，种子 0：对基础模型的胜率 \1（关卡：先\2，后\3）"
    ),
    r"1 stream; transformers generate, adapter merged": "1 路；比较对象：transformers generate，适配器已合并",
    r"16 streams; transformers generate, adapter merged": "16 路；比较对象：transformers generate，适配器已合并",
    r"16 streams; vLLM, adapter loaded": "16 路；比较对象：vLLM，适配器已加载",
    r"first token \(p95\) at 16 streams; transformers generate, adapter merged": (
        "16 路时的第一个词元（p95）；比较对象：transformers generate，适配器已合并"
    ),
    r"chat at 4 streams while a round trains \(peer: alone\)": "训练进行时的 4 路聊天（比较对象：不训练时）",
    r"a KTO round over 200 thumbs, gate pass: from its trigger to the new version's first reply": (
        "200 次评价的一轮 KTO，通过关卡：从触发到新版本的第一条回复（比较对象：所承诺的时间）"
    ),
    r"start until the first message is answered": "从启动到第一条消息得到回答",
    r"99 % of the waits for the next token within, during swaps \(peer: no swaps\)": (
        "切换期间，99 % 的词元间隔在此时间之内（比较对象：不切换时）"
    ),
    r"durable votes at 32 connections": "32 个连接时持久保存的评价",
}


def in_chinese(case: str) -> str:
    """Return a case in Chinese; one that no pattern knows as it is."""
    for pattern, words in CASES.items():
        if match := re.fullmatch(pattern, case):
            found = match.expand(words) if "\\" in words else words
            return re.sub(r"(?<=[先后])\w+?(?=[，）])", lambda outcome: OUTCOMES.get(outcome[0], outcome[0]), found)
    return case
