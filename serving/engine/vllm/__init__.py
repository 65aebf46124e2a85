"""The engine that draws its replies elsewhere: one or many vLLM servers, spoken to over their OpenAI-compatible HTTP.

From the wire up: `wire` is what is said to one server; `replica` is how one server is doing and which adapters it has;
`reply` is one reply growing, wherever its tokens come from; `engine` is the protocol of `serving.engine` over them;
`base` is the tokenizer's half of the base model, which stays on this side. No torch anywhere here.
"""
