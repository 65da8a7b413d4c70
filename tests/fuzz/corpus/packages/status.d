Package: tzdata
Version: 2026a
