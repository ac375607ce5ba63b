"""The package's only Streamlit code: the sidebar, the player component, the run store."""
