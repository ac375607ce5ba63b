"""The player: a packed run, and the page that steps through it in any browser.

Knows records, counts and colours; knows neither torch nor Streamlit, nor who shows it.
"""
