"""Records to figures, and the colours that mean mechanisms. Knows neither torch nor Streamlit."""
