"""A bot that does nothing but take presses: python-telegram-bot alone, a row of SQLite each, then the answer.

`python -m benchmarks._bare_telegram_bot FILE.sqlite TELEGRAM_URL TOKEN`
"""

import sqlite3
import sys

from telegram import Update
from telegram.ext import Application, CallbackQueryHandler, ContextTypes


def main() -> None:
    path, url, token = sys.argv[1:]
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE IF NOT EXISTS votes (rater INTEGER, data TEXT)")

    async def press(update: Update, _: ContextTypes.DEFAULT_TYPE) -> None:
        query = update.callback_query
        if query is None:
            return
        with connection:
            connection.execute("INSERT INTO votes VALUES (?, ?)", (query.from_user.id, query.data))
        await query.answer("Thanks!")

    application = Application.builder().token(token).base_url(url).build()
    application.add_handler(CallbackQueryHandler(press))
    application.run_polling(bootstrap_retries=-1)


if __name__ == "__main__":
    main()
